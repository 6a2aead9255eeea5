"""Means over targets and paired differences, with intervals over targets and participants."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.evaluation.comparison import Finding, compare_attacks
from privoxel.evaluation.intervals import NO_SPREAD, count_draws, t_quantile, welch_freedom
from privoxel.evaluation.metrics import statistic_of
from privoxel.evaluation.scored import Evaluated

DRAWS = 400


class Difference(NamedTuple):
    """Mean over targets of one attack's metric minus another's, its interval and what it shows."""

    value: float
    low: float
    high: float
    finding: Finding


def compare(
    first: Sequence[Evaluated], second: Sequence[Evaluated], metric: str, margin: float
) -> Difference:
    """Return how much better ``first`` is than ``second`` in ``metric``, paired by target and participant."""
    if metric == "auc":
        found = compare_attacks(first, second, margin=margin)
        value, low, high = (math.nan if x is None else float(x) for x in found.difference[:3])
        return Difference(value, low, high, found.finding)
    return _compare_resampled(first, second, metric, margin)


def _compare_resampled(
    first: Sequence[Evaluated], second: Sequence[Evaluated], metric: str, margin: float
) -> Difference:
    """Return the comparison for a metric without a closed form: S² / T + c, as ``compare_attacks`` has it.

    c, the mean covariance between two targets' differences that comes from sharing participants, is that over
    resamples of the participants for all targets at once.
    """
    statistic = statistic_of(metric)
    values = np.array([_value(a, metric) - _value(b, metric) for a, b in zip(first, second, strict=True)])
    codes = [target.participants for target in first]
    size = int(max(code.max() for code in codes)) + 1
    weights = count_draws(size, DRAWS, np.random.default_rng(0))
    drawn = np.stack(
        [
            statistic(a, weights[:, code]) - statistic(b, weights[:, code])
            for a, b, code in zip(first, second, codes, strict=True)
        ]
    )
    covariance = np.atleast_2d(np.cov(drawn[:, ~np.isnan(drawn).any(axis=0)]))
    apart = covariance[~np.eye(len(values), dtype=np.bool_)]
    between, shared = float(np.var(values, ddof=1)) / len(values), max(float(apart.mean()), 0.0)
    variance = max(between + shared, float(covariance.mean()), NO_SPREAD)
    freedom = welch_freedom((between, len(values) - 1.0), (shared, size - 1.0))
    reach = t_quantile(0.95, freedom) * math.sqrt(variance)
    mean = float(values.mean())
    return Difference(mean, mean - reach, mean + reach, _finding(mean - reach, mean + reach, margin))


def _finding(low: float, high: float, margin: float) -> Finding:
    if low > 0.0:
        return "superior"
    if low > -margin:
        return "non-inferior"
    return "inferior" if high < -margin else "not shown"


def _value(target: Evaluated, metric: str) -> float:
    return float(statistic_of(metric)(target, np.ones((1, len(target.members))))[0])


def mean_of(targets: Sequence[Evaluated], metric: str) -> float:
    """Return the mean of a metric over targets."""
    return float(np.mean([_value(target, metric) for target in targets]))


def evaluated(scores: FloatArray, members: FloatArray, people: FloatArray) -> Evaluated:
    """Return one target's scores as the evaluation reads them; no metric here uses a threshold."""
    return Evaluated(scores[None], np.zeros(1), members.astype(np.bool_), people.astype(np.int64))
