"""Cross-fitted attackers judge each other's teachers: how much wider the intervals must be for that.

An attacker that learned from a participant i judges e, and another that learned from e judges i. If, by
chance, people like i and e are alike in their signals and in membership, both attackers gain: what the two
add to the mean is the same chance counted twice. An interval that adds up participants as if they were
independent holds it once. Without a leak this is all the spread there is, and the variance up to twice as
large.

Let c_je be what e adds to the mean through attacker j, and σ²_e its variance over attackers who learned from
different people (pooled over people of one membership). It is a sum over the L teachers i of j, each with
σ²_e / L; where k learned from e and judges i, what e lends to i has σ²_i / L. A classifier that treats the
two alike makes their correlation 1, the most there can be, and the covariance that is missing is

    Σ_e σ_e Σ_jk [j judges e] [k learned from e] (1 / L) Σ_i [j learned from i] [k judges i] σ_i.

It is never above the variance itself (2ab ≤ a² + b²). An attack that learns nothing (a threshold on |error|)
gives e the same score whoever attacks: σ²_e is 0, and so is the correction.

References:
    Own derivation, on Hoeffding's decomposition of a statistic of pairs; that the variance of a
    cross-validated mean has such a term, which its folds do not show: Bengio and Grandvalet 2004, section 3.
"""

import numpy as np

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.evaluation.scored import Evaluated

NO_SPREAD = 1e-12


def widening(parts: FloatArray, seen: BoolArray, kinds: IntArray) -> float:
    """Return by what factor a standard error grows: 1 for one attacker, at most √2.

    Args:
        parts: what every participant adds to the mean through each attacker: attackers × participants.
        seen: whether that attacker judges the participant; it is taken to have learned from those that it
            does not judge and others do.
        kinds: a label a participant, equal where ``parts`` are of one size (members, non-members).
    """
    evaluated = seen.any(axis=0)
    taught = (evaluated & ~seen).astype(np.float64)
    variance = float(np.sum(parts.sum(axis=0) ** 2))
    counts = seen.sum(axis=0)
    repeated = counts > 1
    if variance < NO_SPREAD or not taught.any() or not repeated.any():
        return 1.0
    teachers = np.maximum(taught.sum(axis=1), 1.0)[:, None]
    centre = parts.sum(axis=0) / np.maximum(counts, 1)
    squares = (np.where(seen, parts - centre, 0.0) ** 2).sum(axis=0)
    alike = _mean_off_diagonal(taught @ taught.T / teachers)
    if alike > 1.0 - NO_SPREAD:
        return float(np.sqrt(2.0))
    freedom = np.bincount(kinds, np.maximum(counts - 1, 0))
    sd = np.sqrt(np.bincount(kinds, squares) / np.maximum(freedom, 1) / (1.0 - alike))[kinds]
    lent = (taught * sd) @ seen.T / teachers
    missing = np.einsum("je,jk,ke->", seen * sd, lent, taught)
    return float(np.sqrt(1.0 + min(float(missing) / variance, 1.0)))


def widening_of_calls(evaluated: Evaluated, right: BoolArray, groups: tuple[bool, ...]) -> float:
    """Return the factor for the mean rate of ``right`` calls (attackers × scans), averaged over ``groups``.

    ``groups``: of whom the rate is, members (True), non-members (False) or both.
    """
    codes = np.unique(evaluated.participants, return_inverse=True)[1]
    size = int(codes.max()) + 1
    judged = ~np.isnan(evaluated.scores)
    parts = np.zeros((len(judged), size))
    for attacker, (row, called) in enumerate(zip(judged, right, strict=True)):
        for group in groups:
            scans = row & (evaluated.members == group)
            deviations = called[scans] - called[scans].mean()
            parts[attacker] += np.bincount(codes[scans], deviations, minlength=size) / scans.sum()
    seen = np.stack([np.bincount(codes[row], minlength=size) > 0 for row in judged])
    return widening(parts, seen, kinds_of(codes, evaluated.members))


def kinds_of(codes: IntArray, members: BoolArray) -> IntArray:
    """Return for each participant whether it is a non-member (1), a member (2) or, a family, both (3)."""
    return (np.bincount(codes, ~members) > 0) + 2 * (np.bincount(codes, members) > 0)


def widened(value: float, low: float, high: float, factor: float) -> tuple[float, float]:
    """Return the interval of a fraction with both its arms longer by ``factor``."""
    return max(value - factor * (value - low), 0.0), min(value + factor * (high - value), 1.0)


def _mean_off_diagonal(square: FloatArray) -> float:
    return float(square[~np.eye(len(square), dtype=np.bool_)].mean()) if len(square) > 1 else 0.0
