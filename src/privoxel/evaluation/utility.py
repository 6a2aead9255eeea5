"""How well a model predicts age, with intervals: mean absolute errors of two groups and the gap between them.

The participant is the unit: errors of a person's scans are summed before a variance is taken.
"""

import math
from typing import NamedTuple

import numpy as np

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.evaluation.intervals import t_quantile, welch_freedom
from privoxel.evaluation.scored import Estimate

METHOD = "Student's t over participants"


class Errors(NamedTuple):
    """Mean absolute errors (years) of members and of non-members, and the second minus the first."""

    members: Estimate
    non_members: Estimate
    gap: Estimate


class _Mean(NamedTuple):
    value: float
    variance: float
    freedom: float


def mean_errors(
    error: FloatArray, members: BoolArray, participants: IntArray, *, level: float = 0.95
) -> Errors:
    """Return the mean absolute errors of ``error`` (signed, years, one a scan) with their intervals.

    ``participants``: a code a scan. No interval where a group has a single participant.

    Raises:
        ValueError: if there are no members or no non-members.
    """
    if members.all() or not members.any():
        counts = f"{int(members.sum())} and {int((~members).sum())}"
        raise ValueError(f"mean_errors needs members and non-members, got {counts}. Name some of each.")
    inside, outside = (_mean(np.abs(error[group]), participants[group]) for group in (members, ~members))
    freedom = welch_freedom((inside.variance, inside.freedom), (outside.variance, outside.freedom))
    gap = _Mean(outside.value - inside.value, inside.variance + outside.variance, freedom)
    return Errors(_estimate(inside, level), _estimate(outside, level), _estimate(gap, level))


def _mean(errors: FloatArray, participants: IntArray) -> _Mean:
    """Return the mean over scans; its variance is that of sums over participants (linearised ratio)."""
    codes = np.unique(participants, return_inverse=True)[1]
    clusters = int(codes.max()) + 1
    sums = np.bincount(codes, errors - errors.mean())
    factor = clusters / max(clusters - 1, 1)
    variance = factor * float(np.sum(sums**2)) / len(errors) ** 2 if clusters > 1 else math.inf
    return _Mean(float(errors.mean()), variance, max(clusters - 1.0, 1.0))


def _estimate(mean: _Mean, level: float) -> Estimate:
    if not math.isfinite(mean.variance):
        return Estimate(mean.value, None, None, level, "no interval from one participant")
    reach = t_quantile(level, mean.freedom) * math.sqrt(mean.variance)
    return Estimate(mean.value, mean.value - reach, mean.value + reach, level, METHOD)
