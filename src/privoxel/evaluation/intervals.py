"""Intervals for means over repeats, with the participant as the sampling unit.

A metric is the mean over repeats of its value within each repeat. Its uncertainty is that of the
participants: what one of them adds to the mean, summed over their scans and repeats, is one independent
contribution (DeLong 1988; clustered as Obuchowski 1997), but for what attackers share who judge each other's
teachers (``reciprocity``). Where a rate or a contribution has no spread (all right, all tied), an exact
binomial bound takes over, so that no interval has zero width. The draws of the adversary's leaked set are
conditioned on; their spread is ``sd_repeats``.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.evaluation.reciprocity import kinds_of, widening
from privoxel.evaluation.scored import Estimate, Evaluated

Statistic = Callable[[Evaluated, FloatArray], FloatArray]
"""From scan weights (draws × scans) to one value, or one row of values, per draw."""

NO_SPREAD = 1e-12
"""A variance below this is rounding."""

_CHUNK = 4_000_000


class Contributions(NamedTuple):
    """A mean AUC and what each cluster adds to it beyond the mean.

    ``auc``: one per repeat. ``members``, ``non_members``: one contribution per cluster, in the order of
    ``np.unique`` over the participants' codes, zero where the cluster was never evaluated in that class.
    ``parts``, ``seen``: repeats × clusters, what each repeat contributes to the sum of both, and whether it
    evaluates the cluster. ``kinds``: a label a cluster, by the classes that it has.
    """

    auc: FloatArray
    members: FloatArray
    non_members: FloatArray
    parts: FloatArray
    seen: BoolArray
    kinds: IntArray

    @property
    def plain_variance(self) -> float:
        """Variance of the mean AUC if what participants add were independent: the sum of squares."""
        return float(np.sum((self.members + self.non_members) ** 2))

    @property
    def widening(self) -> float:
        """How much larger the standard error is since attackers judge each other's teachers."""
        return widening(self.parts, self.seen, self.kinds)

    @property
    def variance(self) -> float:
        """Variance of the mean AUC."""
        return self.plain_variance * self.widening**2

    def minus(self, other: "Contributions") -> "Contributions":
        """Return the contributions to the difference of two mean AUCs on the same scans."""
        return Contributions(
            self.auc,
            self.members - other.members,
            self.non_members - other.non_members,
            self.parts - other.parts,
            self.seen,
            self.kinds,
        )


def placements(positives: FloatArray, negatives: FloatArray) -> FloatArray:
    """Return for each positive the share of negatives below it, ties counting one half.

    >>> placements(np.array([1.0, 2.0]), np.array([0.0, 1.0, 3.0])).round(3).tolist()
    [0.5, 0.667]
    """
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left")
    not_above = np.searchsorted(ordered, positives, side="right")
    return (below + not_above) / (2.0 * len(ordered))


def auc_contributions(evaluated: Evaluated) -> Contributions:
    """Return the AUC of every repeat and each cluster's contribution to their mean.

    A member scan i adds (V10_i - AUC) / m within a repeat, a non-member scan j (V01_j - AUC) / n, scaled by
    sqrt(C / (C - 1)) for C clusters of the class; infinite where a class has a single cluster.

    References:
        DeLong et al. 1988, eq. 4-6; Obuchowski 1997, section 2 (sums over a cluster's scans).
    """
    codes = cluster_codes(evaluated)
    repeats = len(evaluated.scores)
    sums = np.zeros((2, repeats, int(codes.max()) + 1))
    is_seen = np.zeros(sums.shape[1:], dtype=np.bool_)
    aucs = np.empty(repeats)
    for row, scores in enumerate(evaluated.scores):
        seen = ~np.isnan(scores)
        groups = (seen & evaluated.members, seen & ~evaluated.members)
        above = placements(scores[groups[0]], scores[groups[1]])
        below = placements(-scores[groups[1]], -scores[groups[0]])
        aucs[row] = above.mean()
        is_seen[row, codes[seen]] = True
        for total, group, placed in zip(sums, groups, (above, below), strict=True):
            total[row] = _cluster_sums(codes[group], placed - aucs[row], total.shape[1]) / repeats
    members, non_members = sums.sum(axis=1)
    return Contributions(
        aucs, members, non_members, sums.sum(axis=0), is_seen, kinds_of(codes, evaluated.members)
    )


def _cluster_sums(codes: IntArray, deviations: FloatArray, size: int) -> FloatArray:
    """Return each cluster's part of one repeat's mean, with the small-sample factor."""
    clusters = int(np.count_nonzero(np.bincount(codes)))
    factor = math.sqrt(clusters / (clusters - 1)) if clusters > 1 else 1.0
    return np.bincount(codes, weights=deviations, minlength=size) * factor / len(codes)


def cluster_codes(evaluated: Evaluated) -> IntArray:
    """Return the participants' codes as 0..clusters-1, one per scan."""
    return np.unique(evaluated.participants, return_inverse=True)[1].astype(np.int64)


def effective_participants(evaluated: Evaluated) -> tuple[float, float]:
    """Return how many members and non-members, each evaluated once, would weigh as much as these.

    Kish's number 1 / sum(c²), c being a participant's share of the mean over repeats and scans; it is the
    plain count where everyone has one scan and is evaluated equally often.
    """
    return _kish(evaluated, evaluated.members), _kish(evaluated, ~evaluated.members)


def _kish(evaluated: Evaluated, group: BoolArray) -> float:
    seen = ~np.isnan(evaluated.scores) & group
    weights = (seen / seen.sum(axis=1, keepdims=True)).mean(axis=0)
    return float(1.0 / np.sum(np.bincount(cluster_codes(evaluated), weights=weights) ** 2))


def disjoint_pairs(evaluated: Evaluated) -> int:
    """Return how many member/non-member pairs without a common participant one repeat holds at most."""
    codes = cluster_codes(evaluated)
    counts = []
    for scores in evaluated.scores:
        seen = ~np.isnan(scores)
        members = np.unique(codes[seen & evaluated.members])
        non_members = np.unique(codes[seen & ~evaluated.members])
        shared = len(np.intersect1d(members, non_members))
        counts.append(max(min(len(members), len(non_members)) - shared, 1))
    return max(counts)


def all_alike_bound(pairs: int, level: float) -> float:
    """Return the lowest probability of an outcome that all of ``pairs`` independent pairs showed.

    >>> round(all_alike_bound(30, 0.95), 3)
    0.884
    """
    return float(((1.0 - level) / 2.0) ** (1.0 / pairs))


def clopper_pearson(rate: float, size: float, level: float = 0.95) -> tuple[float, float]:
    """Return the exact binomial interval of ``rate`` seen among ``size`` (which may be an effective number).

    >>> [round(end, 3) for end in clopper_pearson(0.2, 10)]
    [0.025, 0.556]
    """
    hits, tail = rate * size, (1.0 - level) / 2.0
    low = float(special.betaincinv(hits, size - hits + 1.0, tail)) if rate > 0.0 else 0.0
    high = float(special.betaincinv(hits + 1.0, size - hits, 1.0 - tail)) if rate < 1.0 else 1.0
    return min(low, rate), max(high, rate)


def wilson(rate: float, size: float, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of ``rate`` seen among ``size`` (which may be an effective number).

    >>> [round(end, 3) for end in wilson(0.2, 10)]
    [0.057, 0.51]
    """
    z = t_quantile(level, math.inf)
    centre = (rate + z**2 / (2.0 * size)) / (1.0 + z**2 / size)
    reach = z * math.sqrt(rate * (1.0 - rate) / size + (z / (2.0 * size)) ** 2) / (1.0 + z**2 / size)
    return min(max(centre - reach, 0.0), rate), max(min(centre + reach, 1.0), rate)


def participant_weights(evaluated: Evaluated, draws: int, rng: np.random.Generator) -> FloatArray:
    """Return how often each scan is drawn when participants are resampled: draws × scans.

    Participants are drawn with replacement within members, within non-members and, for families with both,
    within those.
    """
    codes = cluster_codes(evaluated)
    n_clusters = int(codes.max()) + 1
    has_member = np.bincount(codes, weights=evaluated.members, minlength=n_clusters) > 0
    has_other = np.bincount(codes, weights=~evaluated.members, minlength=n_clusters) > 0
    stratum = has_member * 2 + has_other
    counts = np.zeros((draws, n_clusters))
    for kind in np.unique(stratum):
        inside = np.flatnonzero(stratum == kind)
        for row, drawn in zip(counts, _drawn(len(inside), draws, rng), strict=True):
            row[inside] = drawn
    is_one_scan_each = len(codes) == n_clusters and bool(np.all(codes[1:] > codes[:-1]))
    return counts if is_one_scan_each else np.take(counts, codes, axis=1)


def count_draws(size: int, draws: int, rng: np.random.Generator) -> FloatArray:
    """Return how often each of ``size`` comes up in ``size`` draws with replacement: draws × size."""
    counts = np.empty((draws, size))
    for row, drawn in zip(counts, _drawn(size, draws, rng), strict=True):
        row[:] = drawn
    return counts


def _drawn(size: int, draws: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Yield each draw's counts."""
    for picks in rng.integers(size, size=(draws, size)):
        yield np.bincount(picks, minlength=size)


def bootstrap_draws(
    statistic: Statistic, evaluated: Evaluated, *, draws: int, rng: np.random.Generator
) -> FloatArray:
    """Return ``statistic`` on ``draws`` resamples of the participants, in blocks that fit the memory."""
    block = max(_CHUNK // evaluated.scores.shape[1], 1)
    sizes = [min(block, draws - start) for start in range(0, draws, block)]
    parts = [statistic(evaluated, participant_weights(evaluated, size, rng)) for size in sizes]
    return np.concatenate(parts)


def bootstrap_interval(
    statistic: Statistic,
    evaluated: Evaluated,
    *,
    draws: int = 1000,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Estimate:
    """Return ``statistic`` with its percentile interval over participants resampled within each class."""
    value = float(statistic(evaluated, np.ones((1, evaluated.scores.shape[1])))[0])
    low, high = percentile_ends(bootstrap_draws(statistic, evaluated, draws=draws, rng=rng), level)
    method = describe("stratified participant bootstrap", evaluated)
    return Estimate(value, min(float(low), value), max(float(high), value), level, method)


def percentile_ends(resampled: FloatArray, level: float) -> FloatArray:
    """Return the lower and upper ends over axis 0; draws that a repeat cannot serve (NaN) are left out."""
    tail = (1.0 - level) / 2.0
    return np.asarray(np.nanquantile(resampled, [tail, 1.0 - tail], axis=0))


def t_quantile(level: float, freedom: float) -> float:
    """Return the two-sided quantile of Student's t; of the normal for infinite degrees of freedom."""
    return float(stats.t.ppf(0.5 + level / 2.0, freedom))


def logit_interval(value: float, variance: float, quantile: float) -> tuple[float, float]:
    """Return the interval of a fraction strictly between 0 and 1 that is symmetric on the logit scale."""
    centre = math.log(value / (1.0 - value))
    reach = quantile * math.sqrt(variance) / (value * (1.0 - value))
    low, high = special.expit(np.array([centre - reach, centre + reach]))
    return min(float(low), value), max(float(high), value)


def welch_freedom(*parts: tuple[float, float]) -> float:
    """Return Satterthwaite's degrees of freedom of a sum of (variance, degrees of freedom) parts."""
    total = sum(variance for variance, _ in parts)
    noise = sum(variance**2 / freedom for variance, freedom in parts if variance > 0.0)
    return total**2 / noise if noise > 0.0 else math.inf


def variance_between(values: FloatArray, targets: Sequence[Evaluated]) -> tuple[float, float]:
    """Return the variance of the mean of ``values`` that targets cause, and its degrees of freedom.

    Targets with the same members are trainings of one design. Where there are several designs these are the
    draws, each with the mean of its trainings, and where there is one its trainings are. ``values`` holds one
    value a target, of two or more.
    """
    designs = [(one.members.tobytes(), one.participants.tobytes()) for one in targets]
    if len(set(designs)) > 1:
        codes = [designs.index(design) for design in designs]
        values = np.array([values[np.equal(codes, code)].mean() for code in dict.fromkeys(codes)])
    return float(np.var(values, ddof=1)) / len(values), len(values) - 1.0


def describe(method: str, evaluated: Evaluated) -> str:
    """Return ``method`` with the number of repeats it averages.

    >>> one = Evaluated(np.zeros((1, 2)), np.zeros(1), np.array([True, False]), np.array([0, 1]))
    >>> describe("DeLong", one)
    'DeLong'
    """
    repeats = len(evaluated.scores)
    return f"{method}, {repeats} repeats" if repeats > 1 else method
