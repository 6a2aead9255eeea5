"""Tube around the references: how the target's error follows what models that never saw the scan say of it.

References tell how hard a scan is, leaked scans how this target treats members and others. The target's error
r (years) of members and of non-members is modelled apart: r ~ N(μ, exp(v)), μ linear in z, z² − 1 and m, v
linear in z and d (``normal_curve.py``), with z the standardised age, m the mean residual of the scan's OUT
references and d the log of their mean square, both about each reference's own median over OUT scans. Score
= log density as a member − log density as a non-member, the members' variance kept below that of non-members.
A target that never saw a scan errs as the references do, one that memorised it does not: the ridge penalty
draws the slope of m to 1 for non-members and to 0 for members.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.attacks.base import Knowledge, Scored, finite_errors, leaked_table
from privoxel.attacks.centring import age_basis, age_scale
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.normal_curve import FLOOR, Normal, fit_normal_curve, log_ratio
from privoxel.attacks.references import (
    OnReferences,
    References,
    enough,
    masked_mean,
    references_of,
)
from privoxel.attacks.thresholds import best_threshold
from privoxel.signals.table import SignalTable


class Described(NamedTuple):
    """Error of the target (years), age (years), and the OUT references' mean and log mean square."""

    errors: FloatArray
    ages: FloatArray
    expected: FloatArray
    difficulty: FloatArray

    def rows(self, rows: IntArray) -> "Described":
        """Return the scans at ``rows``."""
        return Described(*(values[rows] for values in self))


SLOPE_OF_MEMBERS = 0.0
SLOPE_OF_OTHERS = 1.0


@final
@dataclass(frozen=True)
class ReferenceTube(OnReferences):
    """Log likelihood ratio of a scan's error given its age and its references: member against non-member."""

    name = "reference-tube"
    title = "tube around the references"
    needs_leaked = True
    source = (
        "privoxel; ratio and references as in algorithm 1 of Carlini et al. 2022, regressed on leaked scans; "
        "variance function of Davidian & Carroll 1987"
    )

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return log likelihood ratios and the best threshold on out-of-fold ones.

        Raises:
            SignalError: if references, a signal or leaked scans are missing, or an error is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        references = references_of(self, target, knowledge)
        known, unknown = (_described(self, scans, references) for scans in (leaked, target))
        members, everyone = leaked.is_member(), np.arange(len(leaked))
        held_out = out_of_fold(
            lambda fit, rows: _ratios(known.rows(fit), members[fit], known.rows(rows)),
            leaked_folds(leaked, rng),
        )
        scores = _ratios(known.rows(everyone), members, unknown)
        return Scored(scores, best_threshold(held_out, members))


def _described(attack: ReferenceTube, scans: SignalTable, references: References) -> Described:
    seen = references.compare(scans)
    enough(attack.name, seen.outside, 1, "OUT", of=scans)
    about = seen.models - _centres(references)[:, None]
    squares = masked_mean(np.square(about), seen.outside)
    return Described(
        finite_errors(attack, scans),
        scans.age,
        masked_mean(about, seen.outside),
        np.log(squares + FLOOR**2),
    )


def _centres(references: References) -> FloatArray:
    """Return the median residual (years) of each reference over the scans it has not seen, 0 if none."""
    pairs = zip(references.residuals, references.outside, strict=True)
    return np.array([np.median(residuals[out]) if out.any() else 0.0 for residuals, out in pairs])


def _ratios(known: Described, members: BoolArray, unknown: Described) -> FloatArray:
    """Return log likelihood ratios of the ``unknown`` scans by curves of the ``known`` ones."""
    scale = age_scale(known.ages)
    levels = [
        (known.expected.mean(), known.expected.std()),
        (known.difficulty.mean(), known.difficulty.std()),
    ]

    def values(of: Described) -> tuple[FloatArray, FloatArray]:
        z = scale(of.ages)
        expected, difficulty = (
            (value - mean) / (sd or 1.0)
            for value, (mean, sd) in zip((of.expected, of.difficulty), levels, strict=True)
        )
        return np.column_stack([age_basis(z), expected]), np.column_stack([z, difficulty])

    def normal(rows: IntArray, slope: float) -> Normal:
        fit = known.rows(rows)
        curve = fit_normal_curve(fit.errors - slope * fit.expected, *values(fit))
        about = curve.at(*values(unknown))
        return about._replace(mean=about.mean + slope * unknown.expected)

    return log_ratio(
        unknown.errors,
        normal(np.flatnonzero(members), SLOPE_OF_MEMBERS),
        normal(np.flatnonzero(~members), SLOPE_OF_OTHERS),
    )


REFERENCE_TUBE = ReferenceTube()
ATTACKS = (REFERENCE_TUBE,)
