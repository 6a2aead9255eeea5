"""A metric averaged over targets: what a training recipe leaks, rather than one trained model.

Targets and participants are crossed: another training run and other participants would both change the mean.
With T targets of spread S (which holds the targets' own variation and each one's sampling of participants)
and mean covariance c between two targets' values that comes from sharing participants,

    variance of the mean = S² / T + c.

c is estimated by resampling participants for all targets at once, and is zero where no two targets share one.
Student's t with Satterthwaite's degrees of freedom accounts for the few targets; the interval is symmetric on
the logit scale.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.evaluation.intervals import (
    NO_SPREAD,
    Statistic,
    count_draws,
    logit_interval,
    t_quantile,
    variance_between,
    welch_freedom,
)
from privoxel.evaluation.metrics import (
    TPR_PREFIX,
    auc,
    balanced_accuracy,
    draws_for,
    statistic_of,
    tpr_at_fpr,
)
from privoxel.evaluation.results import METRICS
from privoxel.evaluation.scored import Estimate, Evaluated


class _Spread(NamedTuple):
    """Variance of the mean over targets and its degrees of freedom."""

    variance: float
    freedom: float


def over_targets(
    targets: Sequence[Evaluated], metric: str, *, rng: np.random.Generator, level: float = 0.95
) -> Estimate:
    """Return the mean of ``metric`` over targets with an interval over targets × participants.

    The participants' codes must be common to all targets: equal codes mean the same person. One target gives
    its own estimate. ``sd_repeats`` is the root mean square of the targets' SDs over repeats. Where neither
    the targets nor the participants show any spread the targets' own intervals are averaged.

    Raises:
        ValueError: if there are no targets, or the metric is unknown.
    """
    if not targets or metric not in METRICS:
        raise ValueError(
            f"over_targets needs targets and one of {', '.join(METRICS)}, got {len(targets)} targets and "
            f"{metric!r}."
        )
    singles = [_one_target(target, metric, rng, level) for target in targets]
    if len(singles) == 1:
        return singles[0]
    for row, single in enumerate(singles):
        if single.value is None:
            return Estimate(None, None, None, level, reason=f"target {row + 1}: {single.reason}")
    values = np.array([single.value for single in singles], dtype=np.float64)
    spread = _spread(values, targets, statistic_of(metric), rng)
    mean, sd = float(values.mean()), _quadratic_mean([single.sd_repeats for single in singles])
    if spread.variance < NO_SPREAD or mean in (0.0, 1.0):
        low, high = (float(np.mean([getattr(single, end) for single in singles])) for end in ("low", "high"))
        return Estimate(mean, low, high, level, f"mean of {len(singles)} targets' intervals", sd)
    low, high = logit_interval(mean, spread.variance, t_quantile(level, spread.freedom))
    method = f"{len(singles)} targets × participants, t with {spread.freedom:.1f} degrees of freedom"
    return Estimate(mean, low, high, level, method, sd)


def all_over_targets(
    targets: Sequence[Evaluated], rng: np.random.Generator, *, level: float = 0.95
) -> dict[str, Estimate]:
    """Return every metric of ``results.METRICS`` over targets, by its key."""
    return {metric: over_targets(targets, metric, rng=rng, level=level) for metric in METRICS}


def _one_target(target: Evaluated, metric: str, rng: np.random.Generator, level: float) -> Estimate:
    if metric == "auc":
        return auc(target, level)
    if metric == "balanced_accuracy":
        return balanced_accuracy(target, rng, draws=draws_for(target), level=level)
    fpr = float(metric.removeprefix(TPR_PREFIX))
    return tpr_at_fpr(target, fpr, rng=rng, draws=draws_for(target), level=level)


def _spread(
    values: FloatArray, targets: Sequence[Evaluated], statistic: Statistic, rng: np.random.Generator
) -> _Spread:
    between = variance_between(values, targets)
    covariance = _participant_covariance(targets, statistic, rng)
    off_diagonal = covariance[~np.eye(len(values), dtype=np.bool_)]
    shared = max(float(off_diagonal.mean()), 0.0)
    n_participants = len(np.unique(np.concatenate([target.participants for target in targets])))
    freedom = welch_freedom(between, (shared, max(n_participants - 1.0, 1.0)))
    # Few targets may agree by luck; the participants' own variance is a floor.
    return _Spread(max(between[0] + shared, float(covariance.mean())), freedom)


def _participant_covariance(
    targets: Sequence[Evaluated], statistic: Statistic, rng: np.random.Generator
) -> FloatArray:
    """Return the covariance of the targets' values over resamples of the participants: targets × targets."""
    codes, n_codes = _common_codes(targets)
    draws = min(draws_for(target) for target in targets)
    counts = count_draws(n_codes, draws, rng)
    resampled = np.stack(
        [statistic(target, counts[:, code]) for target, code in zip(targets, codes, strict=True)]
    )
    complete = resampled[:, ~np.isnan(resampled).any(axis=0)]
    if complete.shape[1] < 2:
        return np.zeros((len(targets), len(targets)))
    covariance = np.atleast_2d(np.cov(complete))
    return np.where(_share_participants(codes, n_codes), covariance, 0.0)


def _common_codes(targets: Sequence[Evaluated]) -> tuple[list[IntArray], int]:
    """Return each target's participants as codes 0..n-1 common to all, and n."""
    known, codes = np.unique(np.concatenate([target.participants for target in targets]), return_inverse=True)
    ends = np.cumsum([len(target.participants) for target in targets])[:-1]
    return [part.astype(np.int64) for part in np.split(codes, ends)], len(known)


def _share_participants(codes: Sequence[IntArray], n_codes: int) -> FloatArray:
    """Return how many participants each two targets share: targets × targets."""
    present = np.stack([np.bincount(code, minlength=n_codes) > 0 for code in codes]).astype(np.float64)
    return present @ present.T


def _quadratic_mean(spreads: Sequence[float | None]) -> float | None:
    known = [spread for spread in spreads if spread is not None]
    return math.sqrt(sum(spread**2 for spread in known) / len(known)) if known else None
