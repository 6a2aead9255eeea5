"""The most that age, sex and site alone could reach: what the excess of an attack is counted over.

An attack that reads age does as well as its few leaked people allow. A control that learned from as few loses
to it by luck as often as it wins, and the paired interval, which takes both as they were fitted, would call
the luck a leak. So this control is the best of three on the people judged: logistic regression by one who
knows the membership of everybody but those judged, the older the likelier, the younger the likelier.
"""

from collections.abc import Sequence

import numpy as np

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.attacks import CONTROLS
from privoxel.attacks.folds import stratified_folds
from privoxel.evaluation.draws import Draw
from privoxel.evaluation.intervals import auc_contributions
from privoxel.evaluation.scored import Evaluated
from privoxel.recipes.attacking import Attacked, Crew, run_attacks
from privoxel.signals.table import Membership, SignalTable

FOLDS = 10
KNOWN = 1_000
"""Participants of each class from whom the regression learns, at most: more would not move it."""


def best_of_covariates(table: SignalTable, draws: Sequence[Draw], crew: Crew) -> Attacked:
    """Return the scores of the best ranking by covariates alone, on whom each draw evaluates; no thresholds.

    Raises:
        SignalError: if there are fewer than three members or non-members.
    """
    informed = _informed(table, crew)
    regression = np.nansum(informed.evaluated.scores, axis=0)  # everyone is in one fold
    found = [_over(draws, scores, informed.evaluated) for scores in (regression, table.age, -table.age)]
    return informed._replace(evaluated=max(found, key=lambda one: float(auc_contributions(one).auc.mean())))


def _informed(table: SignalTable, crew: Crew) -> Attacked:
    """Return log-odds given the covariates, each scan's by a regression on people of other folds."""
    rng = crew.streams.generator("covariates-at-best")
    states, codes = table.membership[0], table.covariates.participant_index
    judged = np.isin(states, (Membership.MEMBER, Membership.NON_MEMBER))
    members = states == Membership.MEMBER
    fewest = min(len(np.unique(codes[judged & (members == state)])) for state in (True, False))
    fold = np.full(len(table), -1)
    fold[judged] = stratified_folds(members[judged], codes[judged], rng, folds=max(min(FOLDS, fewest), 1))
    folds = [
        Draw(_at_most(judged & (fold != k), members, codes, rng), fold == k) for k in range(fold.max() + 1)
    ]
    control = CONTROLS["covariates-only"]
    return run_attacks([control], table, folds, crew=crew)[control.name]


def _at_most(scans: BoolArray, members: BoolArray, codes: IntArray, rng: np.random.Generator) -> BoolArray:
    """Return the ``scans`` of ``KNOWN`` participants of each class, drawn at random where there are more."""
    kept = [rng.permutation(np.unique(codes[scans & (members == state)]))[:KNOWN] for state in (True, False)]
    return np.asarray(scans & np.isin(codes, np.concatenate(kept)))


def _over(draws: Sequence[Draw], scores: FloatArray, whose: Evaluated) -> Evaluated:
    """Return ``scores`` on whom each draw evaluates."""
    rows = np.where([draw.evaluated for draw in draws], scores, np.nan)
    return Evaluated(rows, np.full(len(draws), np.nan), whose.members, whose.participants)
