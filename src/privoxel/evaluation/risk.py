"""Who is exposed: the probability that each participant is a member, as an adversary would state it.

Scores become probabilities by Platt's logistic curve, fitted on other participants (cross-fitted), and are
moved to the prevalence that the adversary expects. Rows are participants throughout. These values are about
people: they belong to the data's owner, and only ``k_anonymous_summary`` is meant for others' eyes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from privoxel.arrays import BoolArray, FloatArray, as_mask, as_vector
from privoxel.evaluation.intervals import clopper_pearson, t_quantile

_STEPS = 100
_PENALTY = 1e-3


class ReliabilityPoint(NamedTuple):
    """One bin of the reliability diagram: mean stated probability and the share of members, both fractions.

    ``low`` and ``high`` are the exact binomial interval of ``share`` among ``size`` participants.
    """

    stated: float
    share: float
    low: float
    high: float
    size: int


class Stability(NamedTuple):
    """How alike a participant fares over targets; NaN where it was in none (SD: in fewer than two).

    ``called``: share of targets in which the posterior lies above one half. ``mean``, ``sd``: of the
    posterior.
    """

    called: FloatArray
    mean: FloatArray
    sd: FloatArray


class GroupRisk(NamedTuple):
    """One line of the public summary; ``size`` participants, none fewer than k.

    ``low`` and ``high`` bound the mean posterior by Student's t, within 0 and 1.
    """

    age_band: str
    sex: str
    site: str
    size: int
    mean_posterior: float
    low: float
    high: float


def membership_posterior(
    scores: FloatArray,
    members: BoolArray,
    rng: np.random.Generator,
    *,
    prevalence: float = 0.5,
    folds: int = 5,
) -> FloatArray:
    """Return each participant's probability of being a member at a true ``prevalence`` (0-1).

    A participant's own membership never enters its own curve. The log-odds are moved by those of the
    prevalence minus those of the fitted participants' share of members.

    Raises:
        ValueError: if a class has fewer than ``folds`` participants, or the prevalence is not a share.

    References:
        Platt 1999 (logistic curve, smoothed targets); Elkan 2001, section 2 (change of the prior).
    """
    values = as_vector(scores, "scores")
    inside = as_mask(members, "members", len(values))
    fewest = min(int(inside.sum()), int((~inside).sum()))
    if folds < 2 or fewest < folds or not 0.0 < prevalence < 1.0:
        raise ValueError(
            f"membership_posterior needs at least {max(folds, 2)} participants of each class and a "
            f"prevalence between 0 and 1, got {fewest} and {prevalence}. Use fewer folds or more "
            "participants."
        )
    fold = _folds(inside, folds, rng)
    log_odds = np.empty(len(values))
    for k in range(folds):
        fit = fold != k
        centre, spread = float(values[fit].mean()), float(values[fit].std()) or 1.0
        intercept, slope = _platt((values[fit] - centre) / spread, inside[fit])
        prior = special.logit(prevalence) - special.logit(inside[fit].mean())
        log_odds[~fit] = intercept + slope * (values[~fit] - centre) / spread + prior
    return np.asarray(special.expit(log_odds), dtype=np.float64)


def reliability(
    posterior: FloatArray, members: BoolArray, *, bins: int = 10, level: float = 0.95
) -> tuple[ReliabilityPoint, ...]:
    """Return the reliability diagram in bins of equal size, by rising posterior.

    The posterior must have been stated at the participants' own share of members.
    """
    order = np.argsort(posterior, kind="stable")
    points = []
    for rows in np.array_split(order, min(bins, len(order))):
        share = float(members[rows].mean())
        low, high = clopper_pearson(share, len(rows), level)
        points.append(ReliabilityPoint(float(posterior[rows].mean()), share, low, high, len(rows)))
    return tuple(points)


def stability(posteriors: FloatArray) -> Stability:
    """Return how each participant fares over targets, from targets × participants (NaN: not evaluated).

    Give only the targets in which a participant was a member to see whether the same people are exposed.
    """
    seen = ~np.isnan(posteriors)
    count = seen.sum(axis=0).astype(np.float64)
    mean = _share(np.where(seen, posteriors, 0.0).sum(axis=0), count)
    squares = np.where(seen, (posteriors - mean) ** 2, 0.0).sum(axis=0)
    called = _share(np.where(seen, posteriors > 0.5, False).sum(axis=0).astype(np.float64), count)
    return Stability(called, mean, np.sqrt(_share(squares, count - 1.0)))


def k_anonymous_summary(
    posterior: FloatArray,
    age: FloatArray,
    sex: Sequence[str],
    site: Sequence[str],
    *,
    k: int = 5,
    band: int = 10,
) -> tuple[GroupRisk, ...]:
    """Return the mean posterior by age band (``band`` years) × sex × site, in groups of at least ``k``.

    Groups that are too small are merged over sites, then over sexes, then over ages. Where the rest of all
    merging is still below ``k``, the smallest shown group joins it, so that subtraction reveals nothing.

    Raises:
        ValueError: if ``k`` is below 2 or there are fewer than ``k`` participants.
    """
    if k < 2 or len(posterior) < k:
        raise ValueError(
            f"A k-anonymous summary needs k of at least 2 and as many participants, got k {k} and "
            f"{len(posterior)}. Leave the summary out."
        )
    lower = (np.floor(np.asarray(age) / band) * band).astype(int)
    bands = [f"{low}-{low + band - 1}" for low in lower]
    labels = list(zip(bands, map(str, sex), map(str, site), strict=True))
    shown: dict[tuple[str, str, str], list[int]] = {}
    left = list(range(len(labels)))
    for kept in (3, 2, 1, 0):
        groups: dict[tuple[str, str, str], list[int]] = {}
        for row in left:
            groups.setdefault(_masked(labels[row], kept), []).append(row)
        shown |= {label: rows for label, rows in groups.items() if len(rows) >= k}
        left = [row for rows in groups.values() if len(rows) < k for row in rows]
    if left:
        smallest = min(shown, key=lambda label: (len(shown[label]), label))
        shown[_masked(smallest, 0)] = shown.pop(smallest) + left
    return tuple(_group(label, posterior[rows]) for label, rows in sorted(shown.items()))


def _group(label: tuple[str, str, str], posterior: FloatArray) -> GroupRisk:
    size, mean = len(posterior), float(posterior.mean())
    reach = t_quantile(0.95, size - 1) * float(posterior.std(ddof=1)) / np.sqrt(size)
    return GroupRisk(*label, size, mean, max(mean - reach, 0.0), min(mean + reach, 1.0))


def _masked(label: tuple[str, str, str], kept: int) -> tuple[str, str, str]:
    first, second, third = (*label[:kept], *(["all other"] * (3 - kept)))
    return first, second, third


def _folds(members: BoolArray, folds: int, rng: np.random.Generator) -> FloatArray:
    fold = np.empty(len(members))
    for group in (np.flatnonzero(members), np.flatnonzero(~members)):
        fold[rng.permutation(group)] = np.arange(len(group)) % folds
    return fold


def _platt(scores: FloatArray, members: BoolArray) -> tuple[float, float]:
    """Return intercept and slope of the logistic curve on smoothed targets, by Newton's method."""
    n_members, n_others = int(members.sum()), int((~members).sum())
    targets = np.where(members, (n_members + 1.0) / (n_members + 2.0), 1.0 / (n_others + 2.0))
    design = np.column_stack([np.ones(len(scores)), scores])
    # A trace of ridge on the slope keeps the step finite where all scores tie.
    penalty = np.diag([0.0, _PENALTY])
    weights = np.zeros(2)
    for _ in range(_STEPS):
        chance = special.expit(design @ weights)
        gradient = design.T @ (chance - targets) + penalty @ weights
        curvature = (design * (chance * (1.0 - chance))[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    return float(weights[0]), float(weights[1])


def _share(parts: FloatArray, wholes: FloatArray) -> FloatArray:
    return np.divide(parts, wholes, out=np.full(parts.shape, np.nan), where=wholes > 0.0)
