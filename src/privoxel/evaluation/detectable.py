"""The smallest true AUC that an audit of this size would have shown: the power of the verdict's own test.

A leak is shown where the interval of the AUC lies above one half. That interval is symmetric on the logit
scale, so a true AUC A with standard error s(A) is shown with probability ``power`` where

    logit A = (t + Φ⁻¹(power)) · s(A) / (A (1 - A)),

t being the quantile of the interval. Where an interval is wider than that of so many participants alone
(several models, attackers who judge each other's teachers, few targets), so is s(A), by the same factor.
"""

import math

import numpy as np
from scipy import optimize, special

from privoxel.evaluation.intervals import t_quantile, welch_freedom
from privoxel.evaluation.scored import Estimate

POWER = 0.8
"""Share of audits that show the smallest detectable leak."""

_GRID = 1.0 - np.geomspace(0.5, 1e-6, 400)


def minimal_detectable_auc(
    n_members: float,
    n_non_members: float,
    *,
    level: float = 0.95,
    power: float = POWER,
    widening: float = 1.0,
) -> float:
    """Return the smallest true AUC whose two-sided interval at ``level`` lies above 0.5 with ``power``.

    ``n_members`` and ``n_non_members`` are participants, or their effective numbers; ``widening`` is by what
    factor the standard error exceeds theirs. 1.0 where even a perfect attack could not be told from guessing.

    References:
        Hanley and McNeil 1982, eq. 1-2 (variance at the alternative); logit scale: Pepe 2003, section 5.2.

    >>> round(minimal_detectable_auc(100, 100), 3)
    0.615

    Raises:
        ValueError: if a number of participants is below one.
    """
    if min(n_members, n_non_members) < 1:
        raise ValueError(
            f"minimal_detectable_auc needs members and non-members, got {n_members} and {n_non_members}."
        )
    reach = widening * (_quantile(n_members, n_non_members, level) + float(special.ndtri(power)))

    def margin(area: float) -> float:
        return float(special.logit(area)) - reach * logit_error(area, n_members, n_non_members)

    found = next((k for k, area in enumerate(_GRID) if margin(area) > 0.0), 0)
    return float(optimize.brentq(margin, _GRID[found - 1], _GRID[found])) if found else 1.0


def minimal_detectable_excess(excess: Estimate, *, power: float = POWER) -> float | None:
    """Return the smallest true difference that an interval as wide as ``excess`` shows with ``power``."""
    if excess.low is None or excess.high is None:
        return None
    normal = t_quantile(excess.level, math.inf)
    return (excess.high - excess.low) / 2.0 * (1.0 + float(special.ndtri(power)) / normal)


def widening_of(auc: Estimate, n_members: float, n_non_members: float) -> float:
    """Return by what factor an AUC's interval is wider than that of so many participants with one scan each.

    1 where there is no interval to measure on the logit scale.
    """
    ends = (auc.low, auc.value, auc.high)
    if any(end is None or not 0.0 < end < 1.0 for end in ends):
        return 1.0
    low, value, high = (float(end) for end in ends if end is not None)
    alone = _quantile(n_members, n_non_members, auc.level) * logit_error(value, n_members, n_non_members)
    return float(special.logit(high) - special.logit(low)) / 2.0 / alone


def logit_error(area: float, n_members: float, n_non_members: float) -> float:
    """Return the standard error of the logit of an AUC strictly between 0 and 1."""
    return math.sqrt(hanley_mcneil_variance(area, n_members, n_non_members)) / (area * (1.0 - area))


def hanley_mcneil_variance(area: float, n_members: float, n_non_members: float) -> float:
    """Return the variance of an AUC under Hanley and McNeil's exponential model (1982, eq. 1-2)."""
    above_twice, below_twice = area / (2.0 - area), 2.0 * area**2 / (1.0 + area)
    spread = area * (1.0 - area)
    spread += (n_members - 1.0) * (above_twice - area**2) + (n_non_members - 1.0) * (below_twice - area**2)
    return spread / (n_members * n_non_members)


def _quantile(n_members: float, n_non_members: float, level: float) -> float:
    parts = ((1.0 / size, max(size - 1.0, 1.0)) for size in (n_members, n_non_members))
    return t_quantile(level, welch_freedom(*parts))
