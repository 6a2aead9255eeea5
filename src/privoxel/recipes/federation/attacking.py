"""Every learner as the attacker: each attack model is trained once per attacker and judged on everyone.

The unseen participants are cut in two by one seeded draw: from the first half an attacker takes as many
known non-members as it has known members, the second half is judged. So all pairs are judged on the same
unseen participants, and their intervals can resample them together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.attacks.base import Attack
from privoxel.attacks.federated import (
    AGE_ONLY,
    COVARIATES_ONLY,
    FEATURE_SETS,
    LearnerScores,
    age_alone,
    attack_as_learner,
    split_in_two,
    without_model,
)
from privoxel.executor import run_jobs
from privoxel.recipes.federation.observing import Site, Watched
from privoxel.seeding import Streams
from privoxel.signals.table import Membership, SignalTable

AGE, AGE_LOGISTIC, COVARIATES = "age", "age-logistic", "covariates"
ANY_ROUND = "any-round"
CONTROLS = (AGE, AGE_LOGISTIC, COVARIATES)


class Scores(NamedTuple):
    """One attack by every learner: attackers × scans of the cohort (NaN: not judged), a threshold each."""

    values: FloatArray
    thresholds: FloatArray


class Attackers(NamedTuple):
    """Scores of every attack by every learner that took part.

    ``attacks`` maps names (``set-3``, ``any-round``, ``age``) to scores over the last rounds together,
    ``rounds`` numbers of rounds to scores on that round's model alone. ``judged`` are the unseen scans
    that no attacker knew.
    """

    learners: tuple[str, ...]
    attacks: Mapping[str, Scores]
    rounds: Mapping[int, Scores]
    judged: IntArray


@final
@dataclass(frozen=True)
class _Job:
    """One attack model of one learner: what it learns from, what it judges, and on which snapshots."""

    attack: Attack
    table: SignalTable
    own: IntArray
    unseen: IntArray
    judged: IntArray
    snapshots: tuple[int, ...]
    streams: Streams


def attack_federation(site: Site, watched: Watched) -> Attackers:
    """Return what every learner of ``watched`` finds, by every feature set and control, and by round."""
    halves = _unseen_halves(site)
    last = tuple(range(len(watched.rounds)))[-site.config.attack.rounds :]
    learners = tuple(name for name in site.partition.learners if name != watched.left_out)
    plans = [(attack.name, attack, last) for attack in chosen_sets(site)]
    plans += [(AGE, AGE_ONLY, last[-1:]), *((name, COVARIATES_ONLY, last[-1:]) for name in CONTROLS[1:])]
    if site.config.attack.by_round and not watched.left_out:
        of_round = FEATURE_SETS[site.config.attack.by_round - 1]
        plans += [(f"round-{number}", of_round, (k,)) for k, number in enumerate(watched.rounds)]
    jobs = [
        _job(site, watched, name, attack, learner, halves=halves, snapshots=snapshots)
        for name, attack, snapshots in plans
        for learner in learners
    ]
    found = _run(site, jobs)
    size = len(learners)
    parts = {name: slice(k * size, (k + 1) * size) for k, (name, *_) in enumerate(plans)}
    scores = {name: _gather(site, jobs[part], found[part]) for name, part in parts.items()}
    part = parts[f"set-{site.config.attack.primary}"]
    scores[ANY_ROUND] = _gather(site, jobs[part], found[part], any_round=True)
    return Attackers(
        learners,
        {name: scores[name] for name in scores if not name.startswith("round-")},
        {number: scores[f"round-{number}"] for number in watched.rounds if f"round-{number}" in scores},
        np.sort(halves[1]),
    )


def chosen_sets(site: Site) -> tuple[Attack, ...]:
    """Return the paper's feature sets that the configuration names, the primary one always."""
    settings = site.config.attack
    wanted = {*settings.sets, settings.primary}
    return tuple(attack for number, attack in enumerate(FEATURE_SETS, start=1) if number in wanted)


def _unseen_halves(site: Site) -> tuple[IntArray, IntArray]:
    rng = site.streams.generator("federation/unseen")
    return split_in_two(site.unseen, site.cohort.covariates.participant_index, rng)


def _job(  # noqa: PLR0913 - one attack of one learner, spelled out
    site: Site,
    watched: Watched,
    name: str,
    attack: Attack,
    learner: str,
    *,
    halves: tuple[IntArray, IntArray],
    snapshots: tuple[int, ...],
) -> _Job:
    """Return the attack of ``learner``: as many known unseen scans as own ones, everyone else judged."""
    known_unseen, judged_unseen = halves
    streams = site.streams.child(f"federation/attack/{name}/{learner}")
    own = site.rows(learner)
    count = min(site.config.attack.known, len(own), len(known_unseen))
    own = np.sort(streams.generator("own").permutation(own)[:count])
    others = [site.rows(other) for other in site.partition.learners if other != learner]
    judged = np.sort(np.concatenate([*others, judged_unseen]))
    table = _seen_by(name, watched.table)
    return _Job(attack, table, own, known_unseen[:count], judged, snapshots, streams)


def _seen_by(name: str, table: SignalTable) -> SignalTable:
    """Return what an attack may read: for the controls no signal, for those on age alone no sex and site."""
    if name not in CONTROLS:
        return table
    bare = without_model(table)
    return bare if name == COVARIATES else age_alone(bare)


def _run(site: Site, jobs: Sequence[_Job]) -> list[LearnerScores]:
    found = []
    with site.progress.task("attacks", len(jobs)) as task:
        for scores in run_jobs(_attack, [(job,) for job in jobs], workers=site.workers):
            found.append(scores)
            task.advance()
    return found


def _attack(job: _Job) -> LearnerScores:
    known = np.concatenate([job.own, job.unseen])
    states = np.full(len(job.table), Membership.NON_MEMBER, dtype=np.int8)
    states[job.own] = Membership.MEMBER
    leaked = job.table.with_membership(states == Membership.MEMBER).select(known)
    return attack_as_learner(
        job.attack,
        leaked,
        job.table.select(job.judged),
        snapshots=job.snapshots,
        rng=job.streams.generator("attack"),
    )


def _gather(
    site: Site, jobs: Sequence[_Job], found: Sequence[LearnerScores], *, any_round: bool = False
) -> Scores:
    """Return the scores of every attacker: averaged over the rounds, or the largest of any round."""
    values = np.full((len(jobs), len(site.cohort)), np.nan)
    for row, job, scores in zip(values, jobs, found, strict=True):
        row[job.judged] = scores.by_round.max(axis=0) if any_round else scores.averaged
    return Scores(values, np.array([scores.threshold for scores in found]))
