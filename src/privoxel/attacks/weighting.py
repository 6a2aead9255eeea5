"""Scores of several attacks or classifiers as one: a weighted mean of standardised scores.

Weights are proportional to exp(AUC / temperature), with AUCs of out-of-fold scores of leaked scans
(exponential weighting: Catoni 2004). A second regression on a handful of strongly correlated scores, as
stacking has it, needs more leaked scans than there are: with 25 of each class it lost to equal weights.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.attacks.folds import out_of_fold


class Weighed(NamedTuple):
    """Combined scores of the leaked scans (each with weights that did not see its fold) and of the others."""

    leaked: FloatArray
    target: FloatArray
    weights: FloatArray


def weigh(
    leaked: FloatArray, target: FloatArray, members: BoolArray, folds: IntArray, *, temperature: float
) -> Weighed:
    """Return the weighted means of ``target`` (parts × scans), by out-of-fold scores of leaked scans.

    ``leaked`` holds those, parts × scans; each part is standardised by their mean and standard deviation.
    """

    def combined(fit: IntArray, scores: FloatArray) -> FloatArray:
        known = leaked[:, fit]
        centre, spread = known.mean(axis=1), known.std(axis=1)
        spread = np.where(spread > 0.0, spread, np.inf)  # who calls everyone the same says nothing
        weights = exponential_weights(_aucs(known, members[fit]), temperature)
        return np.asarray(weights @ ((scores - centre[:, None]) / spread[:, None]))

    everyone = np.arange(len(members))
    held_out = out_of_fold(lambda fit, rows: combined(fit, leaked[:, rows]), folds)
    return Weighed(
        held_out, combined(everyone, target), exponential_weights(_aucs(leaked, members), temperature)
    )


def exponential_weights(aucs: FloatArray, temperature: float) -> FloatArray:
    """Return weights in proportion to exp(AUC / ``temperature``) that sum to 1.

    >>> exponential_weights(np.array([0.75, 0.75]), 0.02).tolist()
    [0.5, 0.5]
    """
    weights = np.exp((aucs - aucs.max()) / temperature)
    return np.asarray(weights / weights.sum())


def auc_of(scores: FloatArray, members: BoolArray) -> float:
    """Return the AUC, ties counting half.

    >>> auc_of(np.array([1.0, 2.0, 2.0]), np.array([False, True, False]))
    0.75
    """
    m, n = int(members.sum()), int((~members).sum())
    return float((rankdata(scores)[members].sum() - m * (m + 1) / 2) / (m * n))


def _aucs(scores: FloatArray, members: BoolArray) -> FloatArray:
    return np.array([auc_of(part, members) for part in scores])
