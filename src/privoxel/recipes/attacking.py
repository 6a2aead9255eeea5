"""Running attacks on one target: the adversary's draws in, scores by repeat out.

What an attack is given to score carries no membership; what it may learn from is the leaked part
of the same draw. Every attack on every draw is a job of its own.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from privoxel.attacks.base import Attack, Course, Knowledge, Scored, course_of
from privoxel.errors import SignalError
from privoxel.evaluation.draws import Draw
from privoxel.evaluation.scored import Evaluated
from privoxel.executor import run_jobs
from privoxel.progress import Progress
from privoxel.seeding import Streams
from privoxel.signals.table import SignalTable


class Attacked(NamedTuple):
    """One attack on one target: its scores, what it adapted, and how long it took."""

    attack: Attack
    evaluated: Evaluated
    notes: tuple[str, ...]
    n_leaked: int
    seconds: float


class _Shot(NamedTuple):
    scored: Scored
    seconds: float


class Crew(NamedTuple):
    """Who carries out attacks: randomness, worker processes, who watches, and codes of the participants.

    ``people`` gives every participant a code that is the same for all targets of a run.
    """

    streams: Streams
    people: Mapping[str, int]
    workers: int
    progress: Progress


def run_attacks(  # noqa: PLR0913 - which, on whom, by whom, and what they know
    attacks: Iterable[Attack],
    table: SignalTable,
    draws: Sequence[Draw],
    *,
    crew: Crew,
    models_for: Callable[[Attack], SignalTable | None] = lambda _: None,
    population: SignalTable | None = None,
    seen_by: Callable[[Attack, SignalTable], SignalTable] = lambda _, table: table,
) -> Mapping[str, Attacked]:
    """Return every attack's scores by name; scans outside a draw's evaluated part are NaN.

    ``models_for`` gives an attack its reference models, ``population`` scans of people known to be no
    members (``usable_by``); ``seen_by`` what it sees of a table.
    """
    attacks = tuple(attacks)
    views = [
        (
            attack,
            seen_by(attack, table),
            Knowledge(
                models=_seen(attack, models_for(attack), seen_by),
                population=_seen(attack, usable_by(attack, population), seen_by),
            ),
        )
        for attack in attacks
    ]
    jobs = [
        (attack, seen, draw, crew.streams.child(f"{attack.name}/{repeat}"), knowledge)
        for attack, seen, knowledge in views
        for repeat, draw in enumerate(draws)
    ]
    shots: list[_Shot] = []
    with crew.progress.task("attacks", len(jobs)) as task:
        for job, shot in zip(jobs, run_jobs(_shoot, jobs, workers=crew.workers), strict=True):
            shots.append(shot)
            task.note(job[0].name)
            task.advance()
    size = len(draws)
    return {
        attack.name: _gather(attack, table, draws, shots[k * size : (k + 1) * size], crew.people)
        for k, attack in enumerate(attacks)
    }


def usable_by(attack: Attack, table: SignalTable | None) -> SignalTable | None:
    """Return ``table`` if it holds what ``attack`` reads; it may lack copies, and courses of training."""
    if table is None or course_of(attack) is not Course.LAST or table.missing(attack.requires):
        return None
    return table


def _seen(
    attack: Attack, table: SignalTable | None, seen_by: Callable[[Attack, SignalTable], SignalTable]
) -> SignalTable | None:
    return None if table is None else seen_by(attack, table)


def _shoot(attack: Attack, table: SignalTable, draw: Draw, streams: Streams, knowledge: Knowledge) -> _Shot:
    started = time.perf_counter()
    known = replace(knowledge, leaked=table.select(draw.leaked))
    scored = checked_scores(attack, table.select(draw.evaluated), known, streams)
    return _Shot(scored, time.perf_counter() - started)


def checked_scores(attack: Attack, scans: SignalTable, knowledge: Knowledge, streams: Streams) -> Scored:
    """Return the scores of ``scans``, whose membership is hidden from the attack.

    Raises:
        SignalError: if the attack does not return one finite score a scan.
    """
    scored = attack.score(scans.blinded(), knowledge, streams.generator("attack"))
    if scored.scores.shape != (len(scans),) or not np.isfinite(scored.scores).all():
        raise SignalError(
            f"Attack {attack.name} needs to return one finite score a scan, got shape {scored.scores.shape} "
            f"with {int((~np.isfinite(scored.scores)).sum())} that are not finite. Mend the attack."
        )
    return scored


def _gather(
    attack: Attack,
    table: SignalTable,
    draws: Sequence[Draw],
    shots: Sequence[_Shot],
    people: Mapping[str, int],
) -> Attacked:
    scores = np.full((len(draws), len(table)), np.nan)
    for row, draw, shot in zip(scores, draws, shots, strict=True):
        row[draw.evaluated] = shot.scored.scores
    codes = np.array([people[scan.participant] for scan in table.scans])
    return Attacked(
        attack,
        Evaluated(scores, np.array([shot.scored.threshold for shot in shots]), table.is_member(), codes),
        tuple(dict.fromkeys(note for shot in shots for note in shot.scored.notes)),
        max(len(np.unique(codes[draw.leaked])) for draw in draws),
        sum(shot.seconds for shot in shots),
    )
