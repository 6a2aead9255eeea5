"""Means over targets and paired differences, with intervals over targets, participants and shared models.

With T targets whose differences have variance S², the variance of their mean is S² / T + c + d: c is the mean
covariance between two targets that comes from sharing participants (over resamples of them, for all targets
at once), d the one from sharing reference models (a jackknife: every score without each of them).
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.evaluation.comparison import Finding
from privoxel.evaluation.intervals import NO_SPREAD, count_draws, t_quantile, welch_freedom
from privoxel.evaluation.metrics import statistic_of
from privoxel.evaluation.scored import Evaluated

DRAWS = 400


class Attacked(NamedTuple):
    """One attack's scores of every target, and by reference model those of the targets that lose it.

    ``without``: a model's name to scores by target; empty for an attack that reads no models.
    """

    targets: Sequence[Evaluated]
    without: Mapping[str, Mapping[int, Evaluated]] = MappingProxyType({})


class Difference(NamedTuple):
    """Mean over targets of one attack's metric minus another's, its interval and what it shows."""

    value: float
    low: float
    high: float
    finding: Finding


def compare(
    first: Attacked, second: Attacked, metric: str, margin: float = 0.0, times: float = 1.0
) -> Difference:
    """Return ``first`` minus ``times`` × ``second`` in ``metric``, paired by target and participant.

    ``margin``: what a non-inferior attack may lose; without one nothing is called non-inferior.
    """
    values = _values(first.targets, metric) - times * _values(second.targets, metric)
    count, mean = len(values), float(values.mean())
    people, size = _covariance_of_people(first.targets, second.targets, metric, times)
    models, used = _covariance_of_models(first, second, metric, times)
    between = float(np.var(values, ddof=1)) / count
    shared, lent = _off_diagonal(people), _off_diagonal(models)
    # Few targets may agree by luck; what participants and models alone cause is a floor.
    variance = max(between + shared + lent, float(people.mean()) + float(models.mean()), NO_SPREAD)
    freedom = welch_freedom((between, count - 1.0), (shared, size - 1.0), (lent, max(used - 1.0, 1.0)))
    reach = t_quantile(0.95, freedom) * math.sqrt(variance)
    return Difference(mean, mean - reach, mean + reach, _finding(mean - reach, mean + reach, margin))


def _covariance_of_people(
    first: Sequence[Evaluated], second: Sequence[Evaluated], metric: str, times: float
) -> tuple[FloatArray, int]:
    """Return the covariance of the targets' differences over resamples of people, and how many these are."""
    statistic, codes = statistic_of(metric), [target.participants for target in first]
    size = int(max(code.max() for code in codes)) + 1
    weights = count_draws(size, DRAWS, np.random.default_rng(0))
    drawn = np.stack(
        [
            statistic(a, weights[:, code]) - times * statistic(b, weights[:, code])
            for a, b, code in zip(first, second, codes, strict=True)
        ]
    )
    return np.atleast_2d(np.cov(drawn[:, ~np.isnan(drawn).any(axis=0)])), size


def _covariance_of_models(
    first: Attacked, second: Attacked, metric: str, times: float
) -> tuple[FloatArray, int]:
    """Return the jackknife covariance of the targets' differences over reference models, and their number.

    The squares of a target's own moves sum to the jackknife's variance; the products of two targets' moves,
    to the covariance that comes from the models they share.
    """
    models = list(dict.fromkeys([*first.without, *second.without]))
    moved = _moves(first, models, metric) - times * _moves(second, models, metric)
    return moved @ moved.T, max(len(models), 1)


def _moves(attack: Attacked, models: Sequence[str], metric: str) -> FloatArray:
    """Return targets × models: how far the metric moves without a model, × √((R − 1) / R); 0 if unused."""
    moves = np.zeros((len(attack.targets), len(models)))
    for target in range(len(attack.targets)):
        used = [k for k, model in enumerate(models) if target in attack.without.get(model, {})]
        if len(used) > 1:
            values = _values([attack.without[models[k]][target] for k in used], metric)
            moves[target, used] = math.sqrt(1.0 - 1.0 / len(used)) * (values.mean() - values)
    return moves


def _off_diagonal(covariance: FloatArray) -> float:
    apart = covariance[~np.eye(len(covariance), dtype=np.bool_)]
    return max(float(apart.mean()), 0.0) if apart.size else 0.0


def _finding(low: float, high: float, margin: float) -> Finding:
    if low > 0.0:
        return "superior"
    if margin and low > -margin:
        return "non-inferior"
    return "inferior" if high < -margin else "not shown"


def _values(targets: Sequence[Evaluated], metric: str) -> FloatArray:
    statistic = statistic_of(metric)
    return np.array([float(statistic(one, np.ones((1, len(one.members))))[0]) for one in targets])


def mean_of(targets: Sequence[Evaluated], metric: str) -> float:
    """Return the mean of a metric over targets."""
    return float(_values(targets, metric).mean())


def evaluated(scores: FloatArray, members: FloatArray, people: FloatArray) -> Evaluated:
    """Return one target's scores as the evaluation reads them; no metric here uses a threshold."""
    return Evaluated(scores[None], np.zeros(1), members.astype(np.bool_), people.astype(np.int64))
