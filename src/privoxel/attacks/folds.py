"""Folds over leaked participants: stratified by membership, no participant in two folds."""

from collections.abc import Callable

import numpy as np

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.errors import SignalError
from privoxel.signals.table import SignalTable

FOLDS = 5


def leaked_folds(leaked: SignalTable, rng: np.random.Generator) -> IntArray:
    """Return the fold of each leaked scan: 0 to 4, or fewer folds where a class has fewer participants.

    Raises:
        SignalError: if there are fewer than two leaked members or two leaked non-members.
    """
    members, people = leaked.is_member(), leaked.covariates.participant_index
    counts = [len(np.unique(people[members == state])) for state in (True, False)]
    if min(counts) < 2:
        raise SignalError(
            f"Cross-fitting needs at least 2 leaked members and 2 leaked non-members, got {counts[0]} and "
            f"{counts[1]} participants. Leak more participants."
        )
    return stratified_folds(members, people, rng, folds=min(FOLDS, *counts))


def stratified_folds(
    members: BoolArray, participants: IntArray, rng: np.random.Generator, *, folds: int
) -> IntArray:
    """Return a fold for each scan; the folds of each class differ by at most one participant."""
    fold_of = np.empty(int(participants.max()) + 1, dtype=np.int64)
    for state in (True, False):
        people = rng.permutation(np.unique(participants[members == state]))
        fold_of[people] = np.arange(len(people)) % folds
    return fold_of[participants]


def out_of_fold(score: Callable[[IntArray, IntArray], FloatArray], folds: IntArray) -> FloatArray:
    """Return for each scan the score of a classifier that was fitted without that scan's fold.

    ``score`` takes the rows to fit on and the rows to score.
    """
    scores = np.empty(len(folds))
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        scores[rows] = score(np.flatnonzero(folds != fold), rows)
    return scores
