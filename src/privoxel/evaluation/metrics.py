"""What an attack achieves: AUC, balanced accuracy and true-positive rates, each with its interval.

Every metric is the mean over repeats of its value within the repeat, never a value of pooled scores, and
comes back as an ``Estimate``. Higher score = more likely a member. The participant is the unit of every
interval (see ``intervals``).
"""

import math

import numpy as np

from privoxel.arrays import BoolArray, FloatArray
from privoxel.evaluation.intervals import (
    NO_SPREAD,
    Contributions,
    Statistic,
    all_alike_bound,
    auc_contributions,
    bootstrap_draws,
    clopper_pearson,
    describe,
    disjoint_pairs,
    effective_participants,
    logit_interval,
    percentile_ends,
    t_quantile,
    welch_freedom,
    wilson,
)
from privoxel.evaluation.reciprocity import widened, widening_of_calls
from privoxel.evaluation.results import METRICS, Metric
from privoxel.evaluation.scored import Estimate, Evaluated
from privoxel.evaluation.weighted import (
    tpr_statistic,
    weighted_auc,
    weighted_balanced_accuracy,
    weighted_hits,
    weighted_tpr,
)

TPR_PREFIX = "tpr_at_fpr_"
NO_THRESHOLD = "nobody set a threshold without knowing who is judged"


def auc(evaluated: Evaluated, level: float = 0.95) -> Estimate:
    """Return the mean AUC over repeats: how often a random member outranks a random non-member.

    The interval is DeLong's, clustered by participant over scans and repeats, on the logit scale with
    Student's t. With no spread (AUC 0 or 1, all scores tied) it is the exact bound from pairs without a
    common participant.

    References:
        DeLong et al. 1988; Obuchowski 1997; logit scale: Pepe 2003, section 5.2.

    >>> members = np.array([True, True, True, False, False, False])
    >>> scores = np.array([[5.0, 3.0, 4.0, 1.0, 3.5, 2.0]])
    >>> round(auc(Evaluated(scores, np.zeros(1), members, np.arange(6))).value, 3)
    0.889
    """
    parts = auc_contributions(evaluated)
    value, sd = float(parts.auc.mean()), _sd(parts.auc)
    name = "DeLong" if _has_one_scan_each(evaluated) else "DeLong, clustered by participant"
    if min(evaluated.n_members, evaluated.n_non_members) < 2:
        return Estimate(value, 0.0, 1.0, level, "no interval from one participant", sd)
    if parts.variance < NO_SPREAD:
        bound = all_alike_bound(disjoint_pairs(evaluated), level)
        method = describe("exact bound from separate pairs", evaluated)
        return Estimate(value, value * bound, 1.0 - (1.0 - value) * bound, level, method, sd)
    low, high = logit_interval(value, parts.variance, t_quantile(level, _freedom(parts, evaluated)))
    return Estimate(value, low, high, level, describe(name, evaluated), sd)


def _freedom(parts: Contributions, evaluated: Evaluated) -> float:
    members, non_members = effective_participants(evaluated)
    return welch_freedom(
        (float(np.sum(parts.members**2)), max(members - 1.0, 1.0)),
        (float(np.sum(parts.non_members**2)), max(non_members - 1.0, 1.0)),
    )


def _has_one_scan_each(evaluated: Evaluated) -> bool:
    return len(np.unique(evaluated.participants)) == len(evaluated.participants)


def _sd(per_repeat: FloatArray) -> float | None:
    return float(np.std(per_repeat, ddof=1)) if len(per_repeat) > 1 else None


def balanced_accuracy(
    evaluated: Evaluated, rng: np.random.Generator, *, draws: int = 1000, level: float = 0.95
) -> Estimate:
    """Return the mean over repeats of (TPR + TNR) / 2 at each repeat's own threshold.

    The interval is the wider, at each end, of the percentile bootstrap over participants and of Wilson's
    intervals of the two rates combined (MOVER), which keeps its width when nearly all calls are right. No
    value without thresholds.
    Wilson's size is the one that explains the bootstrap's variance, at least the effective number of
    participants.

    References:
        Newcombe 1998 (method 10) and Zou and Donner 2008, for the sum of two rates.
    """
    if np.isnan(evaluated.thresholds).any():
        return Estimate(None, None, None, level, reason=NO_THRESHOLD)
    rates = _hit_rates(evaluated, ones_like(evaluated))[0]
    resampled = bootstrap_draws(_hit_rates, evaluated, draws=draws, rng=rng)
    low, high = percentile_ends(resampled.mean(axis=1), level)
    value = float(rates.mean())
    below, above = _mover(rates, _wilson_sizes(rates, resampled, evaluated), level)
    right = (evaluated.scores > evaluated.thresholds[:, None]) == evaluated.members
    factor = widening_of_calls(evaluated, right, (True, False))
    return Estimate(
        value,
        *widened(value, min(float(low), value - below), max(float(high), value + above), factor),
        level,
        describe("stratified participant bootstrap with Wilson's floor", evaluated),
        _sd(_per_repeat(_hit_rates, evaluated).mean(axis=1)),
    )


def _hit_rates(evaluated: Evaluated, weights: FloatArray) -> FloatArray:
    """Return true-positive and true-negative rate per draw: draws × 2."""
    return np.stack([weighted_hits(evaluated, weights, group) for group in (True, False)], axis=1)


def _wilson_sizes(rates: FloatArray, resampled: FloatArray, evaluated: Evaluated) -> list[float]:
    """Return for each rate the binomial size that explains its bootstrap variance, at least Kish's number."""
    variances = np.nanvar(resampled, axis=0)
    floors = effective_participants(evaluated)
    return [
        max(floor, float(rate * (1.0 - rate) / variance)) if variance > NO_SPREAD else floor
        for rate, variance, floor in zip(rates, variances, floors, strict=True)
    ]


def _mover(rates: FloatArray, sizes: list[float], level: float) -> tuple[float, float]:
    """Return how far the mean of two rates reaches down and up, from the reach of each."""
    ends = np.array([wilson(float(rate), size, level) for rate, size in zip(rates, sizes, strict=True)])
    below, above = np.hypot.reduce(np.abs(ends - rates[:, None]), axis=0) / len(rates)
    return float(below), float(above)


def tpr_at_fpr(
    evaluated: Evaluated, fpr: float, *, rng: np.random.Generator, draws: int = 1000, level: float = 0.95
) -> Estimate:
    """Return the mean over repeats of the share of members called when at most ``fpr`` of non-members are.

    Nothing is interpolated, and scores that tie are called together. A value is shown only with at least 3 /
    fpr non-members in every repeat. The interval is the wider, at each end, of the participant bootstrap
    (which sets the threshold anew in every resample) and the exact binomial one at that threshold.
    """
    return _tpr_estimates(evaluated, (fpr,), rng, draws=draws, level=level)[0]


def _tpr_estimates(
    evaluated: Evaluated, fprs: tuple[float, ...], rng: np.random.Generator, *, draws: int, level: float
) -> list[Estimate]:
    n_non_members = fewest_non_members(evaluated)
    shown = np.array([fpr for fpr in fprs if n_non_members >= non_members_needed(fpr)])
    if not len(shown):
        return [_too_few(fpr, n_non_members, level) for fpr in fprs]

    statistic = tpr_statistic(evaluated, shown)
    values = statistic(evaluated, ones_like(evaluated))[0]
    ends = percentile_ends(bootstrap_draws(statistic, evaluated, draws=draws, rng=rng), level).T
    spreads = [_sd(column) for column in _per_repeat(statistic, evaluated).T]
    size = effective_participants(evaluated)[0]
    method = describe("stratified participant bootstrap and exact binomial, the wider", evaluated)
    found = {}
    for fpr, value, (low, high), spread in zip(shown, values, ends, spreads, strict=True):
        exact = clopper_pearson(float(value), size, level)
        factor = widening_of_calls(evaluated, _called_at(evaluated, float(fpr)), (True,))
        hull = widened(float(value), min(float(low), exact[0]), max(float(high), exact[1]), factor)
        found[float(fpr)] = Estimate(float(value), *hull, level, method, spread)
    return [found[fpr] if fpr in found else _too_few(fpr, n_non_members, level) for fpr in fprs]


def _called_at(evaluated: Evaluated, fpr: float) -> BoolArray:
    """Return whom each repeat calls a member where at most ``fpr`` of its non-members are called."""
    called = np.ones(evaluated.scores.shape, dtype=np.bool_)
    for row, scores in zip(called, evaluated.scores, strict=True):
        others = np.sort(scores[~evaluated.members & ~np.isnan(scores)])[::-1]
        allowed = math.floor(len(others) * fpr + 1e-6)
        if allowed < len(others):
            row[:] = scores > others[allowed]
    return called


def non_members_needed(fpr: float) -> int:
    """Return how many non-members a true-positive rate at ``fpr`` asks for: 3 / fpr.

    >>> non_members_needed(0.01)
    300

    Raises:
        ValueError: if ``fpr`` is not between 0 and 1.
    """
    if not 0.0 < fpr < 1.0:
        raise ValueError(f"fpr needs a rate between 0 and 1, got {fpr}. Give 0.01 for 1 %.")
    return math.ceil(round(3.0 / fpr, 6))


def fewest_non_members(evaluated: Evaluated) -> int:
    """Return the smallest number of distinct non-member participants that any repeat evaluates."""
    seen = ~np.isnan(evaluated.scores) & ~evaluated.members
    return min(len(np.unique(evaluated.participants[row])) for row in seen)


def _too_few(fpr: float, n_non_members: int, level: float) -> Estimate:
    reason = (
        f"needs at least {non_members_needed(fpr)} non-members for FPR {100 * fpr:g} %, has {n_non_members}"
    )
    return Estimate(None, None, None, level, reason=reason)


def ones_like(evaluated: Evaluated) -> FloatArray:
    """Return the weights under which every scan counts once: 1 × scans."""
    return np.ones((1, len(evaluated.members)))


def _per_repeat(statistic: Statistic, evaluated: Evaluated) -> FloatArray:
    """Return ``statistic`` of each repeat alone: repeats × values."""
    singles = (
        Evaluated(
            evaluated.scores[[row]], evaluated.thresholds[[row]], evaluated.members, evaluated.participants
        )
        for row in range(len(evaluated.scores))
    )
    return np.concatenate([statistic(single, ones_like(single)) for single in singles])


def draws_for(evaluated: Evaluated) -> int:
    """Return how many bootstrap draws this size affords: 1,000, fewer (at least 200) above 20,000 scores."""
    return int(np.clip(20_000_000 // evaluated.scores.size, 200, 1000))


def all_metrics(
    evaluated: Evaluated, rng: np.random.Generator, *, level: float = 0.95
) -> dict[str, Estimate]:
    """Return every metric of ``results.METRICS`` by its key."""
    draws = draws_for(evaluated)
    found = {
        "auc": auc(evaluated, level),
        "balanced_accuracy": balanced_accuracy(evaluated, rng, draws=draws, level=level),
    }
    keys = [key for key in METRICS if key.startswith(TPR_PREFIX)]
    fprs = tuple(float(key.removeprefix(TPR_PREFIX)) for key in keys)
    found |= zip(keys, _tpr_estimates(evaluated, fprs, rng, draws=draws, level=level), strict=True)
    return {key: found[key] for key in METRICS}


def statistic_of(metric: str) -> Statistic:
    """Return the weighted form of a metric of ``results.METRICS``, for resampling."""
    if metric == "auc":
        return weighted_auc
    if metric == "balanced_accuracy":
        return weighted_balanced_accuracy
    fprs = np.array([float(metric.removeprefix(TPR_PREFIX))])
    return lambda evaluated, weights: weighted_tpr(evaluated, weights, fprs)[:, 0]


def to_metric(estimate: Estimate, paper: float | None = None) -> Metric:
    """Return ``estimate`` as ``results.json`` stores it, next to the published value if there is one."""
    return Metric(**estimate._asdict(), paper=paper)


def paired_auc_difference(a: Evaluated, b: Evaluated, *, level: float = 0.95) -> Estimate:
    """Return the mean AUC of ``a`` minus that of ``b`` on the same scans, paired by participant.

    Raises:
        ValueError: if the two do not score the same scans of the same participants.

    References:
        DeLong et al. 1988, eq. 8 (covariance of two areas), clustered as in ``auc``.
    """
    if not (np.array_equal(a.members, b.members) and np.array_equal(a.participants, b.participants)):
        raise ValueError("paired_auc_difference needs the same scans in both, got others. Align their rows.")
    first, second = auc_contributions(a), auc_contributions(b)
    value = float(first.auc.mean() - second.auc.mean())
    parts = first.minus(second)
    method = describe("DeLong, paired by participant", a)
    if min(a.n_members, a.n_non_members) < 2:
        return Estimate(value, -1.0, 1.0, level, "no interval from one participant")
    if parts.variance < NO_SPREAD:
        bound = all_alike_bound(min(disjoint_pairs(a), disjoint_pairs(b)), level)
        centre, reach = value * bound, 1.0 - bound
        method = describe("exact bound from separate pairs", a)
    else:
        centre, reach = value, t_quantile(level, _freedom(parts, a)) * math.sqrt(parts.variance)
    low, high = min(max(centre - reach, -1.0), value), max(min(centre + reach, 1.0), value)
    return Estimate(value, low, high, level, method)
