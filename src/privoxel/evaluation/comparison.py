"""Two attacks compared on the same participants of one or several targets: superiority and non-inferiority.

The difference of AUCs is taken within each target and averaged. With T targets whose differences have
variance S², and mean covariance c between two targets that comes from sharing participants, the variance of
the mean is S² / T + c, as in ``combine``; here c is a sum over participants, without resampling.
"""

import math
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.evaluation.intervals import (
    NO_SPREAD,
    Contributions,
    auc_contributions,
    t_quantile,
    variance_between,
    welch_freedom,
)
from privoxel.evaluation.metrics import paired_auc_difference
from privoxel.evaluation.scored import Estimate, Evaluated

MARGIN = 0.01
"""AUC that a non-inferior attack may lose at most."""

Finding = Literal["superior", "non-inferior", "inferior", "not shown"]


class Components(NamedTuple):
    """Variance of one target's value (an AUC, or a difference of two), by source; each is at least 0.

    ``participants``: sampling of the participants, the mean over targets. ``trainings``: between trainings on
    the same design, beyond the sampling that they do not share; None without a repeated design.
    ``designs``: what is left between targets of different designs.
    """

    participants: float
    trainings: float | None
    designs: float

    @property
    def beyond_participants(self) -> float | None:
        """Share of the variance that is not the sampling of participants; None where there is no variance."""
        beyond = (self.trainings or 0.0) + self.designs
        total = self.participants + beyond
        return beyond / total if total > NO_SPREAD else None


class Comparison(NamedTuple):
    """The mean AUC of the first attack minus that of the second.

    ``finding`` reads the two-sided interval: superior above 0, non-inferior above -``margin``, inferior below
    -``margin``. ``per_target`` holds the differences; ``components`` is None for one target.
    """

    difference: Estimate
    finding: Finding
    margin: float
    per_target: FloatArray
    components: Components | None


def compare_attacks(
    first: Sequence[Evaluated],
    second: Sequence[Evaluated],
    *,
    designs: Sequence[Hashable] | None = None,
    margin: float = MARGIN,
    level: float = 0.95,
) -> Comparison:
    """Return how much better ``first`` is than ``second``, paired by target and participant.

    Args:
        first: one attack's scores, one entry a target; participants' codes are common to all targets.
        second: the other attack's scores on the same scans, in the same order.
        designs: a label a target, equal where only the training was repeated; all differ if not given.
        margin: AUC that a non-inferior attack may lose.
        level: of the two-sided interval.

    Raises:
        ValueError: if there are no targets, or the two do not hold the same scans.
    """
    labels = list(range(len(first))) if designs is None else list(designs)
    if not first or len(first) != len(second) or len(labels) != len(first):
        raise ValueError(
            f"compare_attacks needs as many targets of both attacks and as many designs, got {len(first)}, "
            f"{len(second)} and {len(labels)}. Give one of each a target."
        )
    singles = [paired_auc_difference(a, b, level=level) for a, b in zip(first, second, strict=True)]
    values = np.array([single.value for single in singles], dtype=np.float64)
    if len(values) == 1:
        return Comparison(singles[0], _finding(singles[0], margin), margin, values, None)
    parts = [auc_contributions(a).minus(auc_contributions(b)) for a, b in zip(first, second, strict=True)]
    covariance = _sampling_covariance(first, parts)
    difference = _mean_difference(values, covariance, first, singles)
    components = _components(values, covariance, labels)
    return Comparison(difference, _finding(difference, margin), margin, values, components)


def _finding(difference: Estimate, margin: float) -> Finding:
    if difference.low is None or difference.high is None:
        return "not shown"
    if difference.low > 0.0:
        return "superior"
    if difference.low > -margin:
        return "non-inferior"
    return "inferior" if difference.high < -margin else "not shown"


def _mean_difference(
    values: FloatArray, covariance: FloatArray, targets: Sequence[Evaluated], singles: Sequence[Estimate]
) -> Estimate:
    count, mean, level = len(values), float(values.mean()), singles[0].level
    off_diagonal = covariance[~np.eye(count, dtype=np.bool_)]
    between, shared = variance_between(values, targets), max(float(off_diagonal.mean()), 0.0)
    # Few targets may agree by luck; the participants' own variance is a floor.
    variance = max(between[0] + shared, float(covariance.mean()))
    if variance < NO_SPREAD:
        low, high = (float(np.mean([getattr(single, end) for single in singles])) for end in ("low", "high"))
        return Estimate(mean, low, high, level, f"mean of {count} targets' paired intervals")
    people = len(np.unique(np.concatenate([target.participants for target in targets])))
    freedom = welch_freedom(between, (shared, max(people - 1.0, 1.0)))
    reach = t_quantile(level, freedom) * math.sqrt(variance)
    method = f"paired, {count} targets × participants, t with {freedom:.1f} degrees of freedom"
    return Estimate(mean, max(mean - reach, -1.0), min(mean + reach, 1.0), level, method)


def components_over_targets(
    targets: Sequence[Evaluated], *, designs: Sequence[Hashable] | None = None
) -> Components | None:
    """Return where the AUCs of one attack's targets differ from; None for fewer than two targets.

    Arguments are those of ``compare_attacks``.
    """
    if len(targets) < 2:
        return None
    parts = [auc_contributions(target) for target in targets]
    values = np.array([part.auc.mean() for part in parts], dtype=np.float64)
    labels = list(range(len(targets))) if designs is None else list(designs)
    return _components(values, _sampling_covariance(targets, parts), labels)


def _sampling_covariance(targets: Sequence[Evaluated], parts: Sequence[Contributions]) -> FloatArray:
    """Return the covariance of the targets' values that their participants cause: targets × targets."""
    known = np.unique(np.concatenate([target.participants for target in targets]))
    added = np.zeros((len(targets), len(known)))
    for row, target, part in zip(added, targets, parts, strict=True):
        codes = np.searchsorted(known, np.unique(target.participants))
        row[codes] = (part.members + part.non_members) * part.widening
    return added @ added.T


def _components(values: FloatArray, covariance: FloatArray, designs: Sequence[Hashable]) -> Components:
    """Return the components by the method of moments; estimates below zero are set to zero."""
    same = np.array([[a == b for b in designs] for a in designs])
    alone = np.eye(len(values), dtype=np.bool_)
    participants = float(np.diag(covariance).mean())
    repeated, apart = same & ~alone, ~same
    squares = (values[:, None] - values) ** 2 / 2.0
    # Half the squared difference of two targets estimates their variance less what they share.
    trainings = None
    if repeated.any():
        unshared = participants - float(covariance[repeated].mean())
        trainings = max(float(squares[repeated].mean()) - unshared, 0.0)
    if not apart.any():
        return Components(participants, trainings, 0.0)
    unshared = participants - float(covariance[apart].mean())
    beyond = max(float(squares[apart].mean()) - unshared, 0.0)
    return Components(participants, trainings, max(beyond - (trainings or 0.0), 0.0))
