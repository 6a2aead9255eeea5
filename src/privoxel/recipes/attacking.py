"""Running attacks on one target: the adversary's draws in, scores by repeat out.

What an attack is given to score carries no membership; what it may learn from is the leaked part
of the same draw.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from privoxel.attacks.base import Attack, Knowledge
from privoxel.evaluation.draws import Draw
from privoxel.evaluation.scored import Evaluated
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


def run_attack(
    attack: Attack, table: SignalTable, draws: Sequence[Draw], *, people: Mapping[str, int], streams: Streams
) -> Attacked:
    """Return the scores of ``attack`` for every draw; scans outside a draw's evaluated part are NaN.

    ``people`` gives every participant a code that is the same for all targets of a run.
    """
    started = time.perf_counter()
    scores = np.full((len(draws), len(table)), np.nan)
    thresholds = np.empty(len(draws))
    notes: dict[str, None] = {}
    for repeat, draw in enumerate(draws):
        knowledge = Knowledge(leaked=table.select(draw.leaked))
        rng = streams.generator(f"{attack.name}/{repeat}")
        scored = attack.score(table.select(draw.evaluated).blinded(), knowledge, rng)
        scores[repeat, draw.evaluated] = scored.scores
        thresholds[repeat] = scored.threshold
        notes |= dict.fromkeys(scored.notes)
    codes = np.array([people[scan.participant] for scan in table.scans])
    evaluated = Evaluated(scores, thresholds, table.is_member(), codes)
    return Attacked(
        attack, evaluated, tuple(notes), _leaked_participants(table, draws), time.perf_counter() - started
    )


def run_attacks(
    attacks: Iterable[Attack],
    table: SignalTable,
    draws: Sequence[Draw],
    *,
    people: Mapping[str, int],
    streams: Streams,
    progress: Progress,
) -> Mapping[str, Attacked]:
    """Return every attack's scores by name, in the order given."""
    attacks = tuple(attacks)
    done: dict[str, Attacked] = {}
    with progress.task("attacks", len(attacks)) as task:
        for attack in attacks:
            task.note(attack.title)
            done[attack.name] = run_attack(attack, table, draws, people=people, streams=streams)
            task.advance()
    return done


def _leaked_participants(table: SignalTable, draws: Sequence[Draw]) -> int:
    codes = table.covariates.participant_index
    return max(len(np.unique(codes[draw.leaked])) for draw in draws)
