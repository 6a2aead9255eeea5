"""Scores and the threshold that leaked scans set on them: of a statistic, and of a fitted regression."""

from collections.abc import Callable

import numpy as np

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.attacks.base import Attack, Knowledge, Scored, leaked_table
from privoxel.attacks.classifiers import Settings, decisions
from privoxel.attacks.folds import out_of_fold
from privoxel.attacks.thresholds import MEDIAN_THRESHOLD, best_threshold
from privoxel.executor import one_thread
from privoxel.signals.table import SignalTable


def scored_by_statistic(
    attack: Attack,
    target: SignalTable,
    knowledge: Knowledge,
    statistic: Callable[[SignalTable], FloatArray],
) -> Scored:
    """Return ``statistic`` of each scan and the best threshold on the leaked ones, without any the median.

    Nothing is fitted to membership, so that the leaked scans are out of fold as they stand.

    Raises:
        SignalError: if a signal or a leaked class is missing.
    """
    if target.missing(attack.requires) or knowledge.leaked is not None:
        leaked = leaked_table(attack, target, knowledge)
        return Scored(statistic(target), best_threshold(statistic(leaked), leaked.is_member()))
    scores = statistic(target)
    return Scored(scores, float(np.median(scores)), (MEDIAN_THRESHOLD,))


def scored_by_logistic(
    known: FloatArray, members: BoolArray, folds: IntArray, unknown: FloatArray, settings: Settings
) -> Scored:
    """Return log-odds of ``unknown`` by a regression on ``known`` (scans × features) and their threshold.

    The threshold is the best one on the log-odds of the known scans out of ``folds``.
    """

    def decide(fit: IntArray, rows: IntArray) -> FloatArray:
        return decisions("logistic", known[fit], members[fit], known[rows], settings)

    with one_thread():
        held_out = out_of_fold(decide, folds)
        scores = decisions("logistic", known, members, unknown, settings)
    return Scored(scores, best_threshold(held_out, members))
