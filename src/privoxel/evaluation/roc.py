"""The ROC curve on a logarithmic grid, with a band that holds the whole curve at once."""

from typing import NamedTuple

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.evaluation.intervals import bootstrap_draws, clopper_pearson, effective_participants
from privoxel.evaluation.metrics import draws_for, fewest_non_members, ones_like
from privoxel.evaluation.scored import Evaluated
from privoxel.evaluation.weighted import tpr_statistic


class RocCurve(NamedTuple):
    """Mean ROC curve over repeats on a grid of false-positive rates; fractions.

    The band from ``low`` to ``high`` is simultaneous: it is meant to hold the whole curve, in ``level`` of
    such audits.
    """

    fpr: FloatArray
    tpr: FloatArray
    low: FloatArray
    high: FloatArray
    level: float


def roc_curve(
    evaluated: Evaluated,
    rng: np.random.Generator,
    *,
    points: int = 60,
    draws: int = 1000,
    level: float = 0.95,
) -> RocCurve:
    """Return the mean ROC curve with a simultaneous band from a participant bootstrap.

    The grid runs from one non-member of a repeat to all of them. The band's ends at each rate are the
    resamples' quantiles at one common tail, the widest tail that leaves ``level`` of the resampled curves
    inside everywhere; where the exact binomial interval at that tail is wider, it is used.

    References:
        Davison and Hinkley 1997, section 4.2.4 (graphical envelopes with an overall error rate).
    """
    fprs = np.geomspace(1.0 / fewest_non_members(evaluated), 1.0, points)
    statistic = tpr_statistic(evaluated, fprs)
    tpr = statistic(evaluated, ones_like(evaluated))[0]
    resampled = bootstrap_draws(statistic, evaluated, draws=min(draws, draws_for(evaluated)), rng=rng)
    curves = np.sort(resampled[~np.isnan(resampled).any(axis=1)], axis=0)
    tail = common_tail(resampled[~np.isnan(resampled).any(axis=1)], level)
    place = int(np.ceil(tail * len(curves))) - 1
    low, high = curves[place], curves[len(curves) - 1 - place]
    size = effective_participants(evaluated)[0]
    exact = np.array([clopper_pearson(float(rate), size, 1.0 - 2.0 * tail) for rate in tpr]).T
    return RocCurve(fprs, tpr, np.minimum(low, exact[0]), np.maximum(high, exact[1]), level)


def common_tail(curves: FloatArray, level: float) -> float:
    """Return the largest tail whose quantiles, at every point, hold at least ``level`` of ``curves`` wholly.

    ``curves``: draws × points. A value that ties with a quantile lies inside.
    """
    draws = len(curves)
    ordered = np.sort(curves, axis=0)
    outermost = np.ones(draws)
    for column, values in zip(ordered.T, curves.T, strict=True):
        not_above = np.searchsorted(column, values, "right") / draws
        not_below = 1.0 - np.searchsorted(column, values, "left") / draws
        outermost = np.minimum(outermost, np.minimum(not_above, not_below))
    tail = float(np.quantile(outermost, 1.0 - level, method="lower"))
    return min(max(tail, 1.0 / draws), (1.0 - level) / 2.0)
