"""The malicious learner: community models of several rounds, its own scans as known members.

A learner keeps the community models that it received, knows that its own scans trained them and that some
unseen scans did not, and fits one classifier for all its rounds. Every other scan gets a logit from each
round's features, and the logits are averaged (Gupta et al. 2021, 3.2 and 4.2).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.attacks.base import Attack, Knowledge, ThreatModel
from privoxel.attacks.covariates import CovariatesOnly
from privoxel.attacks.paper import CONV6, OUTPUT, EncoderAttack
from privoxel.cohort.base import Covariates, ScanId
from privoxel.errors import SignalError
from privoxel.signals.table import GRADIENT_NORMS, PREDICTION, LazyArray, SignalTable

PAPER = "Gupta et al. 2021, 4.2 and table 5"

FEATURE_SETS: tuple[EncoderAttack, ...] = (
    EncoderAttack(
        name="set-1",
        title="set 1: gradient magnitudes",
        threat_model=ThreatModel.MALICIOUS_LEARNER,
        signals=(GRADIENT_NORMS,),
        source=f"{PAPER}, set 1",
    ),
    EncoderAttack(
        name="set-2",
        title="set 2: gradient magnitudes, prediction + label",
        threat_model=ThreatModel.MALICIOUS_LEARNER,
        signals=(GRADIENT_NORMS, PREDICTION),
        source=f"{PAPER}, set 2",
    ),
    EncoderAttack(
        name="set-3",
        title="set 3: set 2 and gradients (conv 6 + output)",
        threat_model=ThreatModel.MALICIOUS_LEARNER,
        signals=(GRADIENT_NORMS, PREDICTION, CONV6, OUTPUT),
        source=f"{PAPER}, set 3",
    ),
)
"""The paper's three sets of features, in its order."""

AGE_ONLY = EncoderAttack(
    name="age",
    title="age alone, by the same classifier",
    threat_model=ThreatModel.NO_MODEL,
    signals=(PREDICTION,),
    source="control; not in Gupta et al. 2021",
)
"""Run on ``without_model``, so that prediction and label are both the age."""

COVARIATES_ONLY = CovariatesOnly()


class LearnerScores(NamedTuple):
    """What one learner's attack says: per round (snapshots × scans), averaged (scans), and its threshold."""

    by_round: FloatArray
    averaged: FloatArray
    threshold: float


def attack_as_learner(
    attack: Attack,
    leaked: SignalTable,
    target: SignalTable,
    *,
    snapshots: Sequence[int],
    rng: np.random.Generator,
) -> LearnerScores:
    """Return the scores of every scan of ``target`` by one classifier shared over ``snapshots``.

    Args:
        attack: any attack that learns from leaked scans.
        leaked: the attacker's own scans (members) and unseen scans it holds (non-members).
        target: the scans to be judged; their membership is hidden from the attack.
        snapshots: which of the tables' snapshots the attacker keeps.
        rng: where the attack's randomness comes from.

    Raises:
        SignalError: if a scan is both known and judged, or no snapshot is named.
    """
    both = set(leaked.scans) & set(target.scans)
    if both or not len(snapshots):
        raise SignalError(
            f"A learner's attack needs judged scans that it did not learn from and a snapshot, got "
            f"{len(both)} scans in both and {len(snapshots)} snapshots. Choose other scans or snapshots."
        )
    knowledge = Knowledge(leaked=rounds_as_rows(leaked, snapshots))
    scored = attack.score(rounds_as_rows(target.blinded(), snapshots), knowledge, rng)
    by_round = scored.scores.reshape(len(snapshots), len(target))
    return LearnerScores(by_round, by_round.mean(axis=0), scored.threshold)


def rounds_as_rows(table: SignalTable, snapshots: Sequence[int]) -> SignalTable:
    """Return a table with one snapshot and a row for each of ``snapshots`` × scans, in that order.

    Rows of one scan keep its participant, so that folds and validation sets never part them.
    """
    rows = np.tile(np.arange(len(table)), len(snapshots))
    people = table.covariates
    scans = tuple(
        ScanId(scan.participant, scan.session, f"{scan.rec}@{snapshot}")
        for snapshot in snapshots
        for scan in table.scans
    )
    values = {
        name: LazyArray(np.concatenate([array.read(0, place) for place in snapshots])[None, None])
        for name, array in table.values.items()
    }
    return replace(
        table,
        covariates=Covariates(scans, people.age[rows], people.sex[rows], people.site[rows]),
        snapshots=("rounds",),
        membership=np.tile(table.membership, len(snapshots)),
        values=values,
    )


def without_model(table: SignalTable) -> SignalTable:
    """Return ``table`` with the age in place of the prediction and no other signal: what needs no model."""
    ages = np.broadcast_to(table.age.astype(np.float32), (1, len(table.snapshots), len(table)))
    return replace(table, values={PREDICTION: LazyArray(ages)})


def age_alone(table: SignalTable) -> SignalTable:
    """Return ``table`` with sex and site unknown."""
    blank = np.full(len(table), "", dtype=np.str_)
    return replace(table, covariates=replace(table.covariates, sex=blank, site=blank))


def split_in_two(
    rows: IntArray, participants: IntArray, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Return two halves of ``rows`` by a random draw of participants, each in random order of participants.

    ``participants`` holds a code for every row of the cohort; a participant's scans stay together.
    """
    people = rng.permutation(np.unique(participants[rows]))
    place = np.empty(int(participants.max()) + 1, dtype=np.int64)
    place[people] = np.arange(len(people))
    order = rows[np.argsort(place[participants[rows]], kind="stable")]
    is_first = place[participants[order]] < len(people) // 2
    return order[is_first], order[~is_first]
