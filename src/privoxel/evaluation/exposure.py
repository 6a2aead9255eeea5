"""Who is exposed and what goes with it, without naming anyone.

Rows are participants. Every count that is returned is zero or at least ``smallest``, and so is every
difference between two of them that a reader could take.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from privoxel.arrays import BoolArray, FloatArray
from privoxel.evaluation.intervals import clopper_pearson, t_quantile
from privoxel.evaluation.scored import Estimate

LIMITS = (0.5, 0.75, 0.9)
"""Membership probabilities above which people are counted."""


class SiteDifference(NamedTuple):
    """How much higher the probability of one site's people is than that of the others."""

    site: str
    difference: Estimate
    size: int


def shares_above(
    probability: FloatArray, *, smallest: int, limits: Sequence[float] = LIMITS, level: float = 0.95
) -> tuple[Estimate, ...]:
    """Return the share of people whose probability lies above each limit, with its exact interval.

    A share is None where it, its complement, or its difference from another shown share would be a group of
    fewer than ``smallest`` people.
    """
    shown = [0, len(probability)]
    found = []
    for limit in limits:
        count = int((probability > limit).sum())
        if any(0 < abs(count - other) < smallest for other in shown):
            reason = f"it would single out a group of fewer than {smallest} people"
            found.append(Estimate(None, None, None, level, reason=reason))
            continue
        shown.append(count)
        rate = count / max(len(probability), 1)
        low, high = clopper_pearson(rate, max(len(probability), 1), level)
        found.append(Estimate(rate, low, high, level, "exact binomial"))
    return tuple(found)


def rank_correlation(first: FloatArray, second: FloatArray, *, level: float = 0.95) -> Estimate:
    """Return Spearman's correlation over the people for whom both are known.

    The interval is Fisher's with the variance (1 + r²/2) / (n - 3).

    References:
        Bonett and Wright 2000, eq. 6.

    >>> rank_correlation(np.arange(30.0), np.arange(30.0) ** 2).value
    1.0
    """
    known = ~np.isnan(first) & ~np.isnan(second)
    n = int(known.sum())
    if n < 5 or np.ptp(first[known]) == 0.0 or np.ptp(second[known]) == 0.0:
        reason = f"needs at least 5 people with different values, has {n}"
        return Estimate(None, None, None, level, reason=reason)
    value = float(np.clip(stats.spearmanr(first[known], second[known]).statistic, -1.0, 1.0))
    if abs(value) > 1.0 - 1e-12:
        return Estimate(round(value), None, None, level, "Spearman")
    reach = t_quantile(level, math.inf) * math.sqrt((1.0 + value**2 / 2.0) / (n - 3))
    centre = math.atanh(value)
    return Estimate(
        value, math.tanh(centre - reach), math.tanh(centre + reach), level, "Spearman, Fisher's z"
    )


def site_differences(
    probability: FloatArray, site: Sequence[str], *, smallest: int, level: float = 0.95
) -> tuple[SiteDifference, ...]:
    """Return each site's mean probability minus that of all other sites, at a level shared by all sites.

    Only sites of at least ``smallest`` people beside as many others are compared; Welch's t, Bonferroni over
    the sites.
    """
    labels = np.array([str(one) for one in site])
    names = [str(name) for name in np.unique(labels) if _is_divided(labels == name, smallest)]
    found = []
    for name in names:
        here, elsewhere = probability[labels == name], probability[labels != name]
        value = float(here.mean() - elsewhere.mean())
        each = 1.0 - (1.0 - level) / len(names)
        interval = stats.ttest_ind(here, elsewhere, equal_var=False).confidence_interval(each)
        low, high = float(interval.low), float(interval.high)
        if math.isnan(low):
            low = high = value
        method = f"Welch, shared by {len(names)} sites"
        found.append(SiteDifference(name, Estimate(value, low, high, each, method), len(here)))
    return tuple(found)


def _is_divided(inside: BoolArray, smallest: int) -> bool:
    return min(int(inside.sum()), int((~inside).sum())) >= max(smallest, 2)
