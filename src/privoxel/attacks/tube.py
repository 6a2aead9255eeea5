"""Tube likelihood ratio: members lie near a model-specific curve of error against age, others do not.

The error r (years) of members and of non-members is modelled apart: r ~ N(μ(z), exp(v(z))), with μ quadratic
and v linear in standardised age z (``normal_curve.py``). Score = log density as a member − log density as a
non-member, the members' variance kept below that of non-members.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel, finite_errors, leaked_table
from privoxel.attacks.centring import age_basis, age_scale
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.normal_curve import Normal, fit_normal_curve, log_ratio
from privoxel.attacks.thresholds import best_threshold
from privoxel.signals.table import PREDICTION, SignalTable


@final
@dataclass(frozen=True)
class TubeRatio:
    """Log likelihood ratio of a scan's error at its age: member against non-member."""

    name = "tube"
    title = "tube likelihood ratio"
    threat_model = ThreatModel.BLACK_BOX
    requires = frozenset({PREDICTION})
    needs_leaked = True
    source = (
        "privoxel; ratio as in algorithm 1 of Carlini et al. 2022, with age in place of reference models; "
        "variance function of Davidian & Carroll 1987"
    )

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return log likelihood ratios and the best threshold on out-of-fold ones.

        Raises:
            SignalError: if a signal or leaked participants are missing, or an error is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        unknown, folds = finite_errors(self, target), leaked_folds(leaked, rng)
        held_out = self.held_out(leaked, folds, rng)
        scores = self._ratios(leaked, np.arange(len(leaked)), unknown, target.age)
        return Scored(scores, best_threshold(held_out, leaked.is_member()))

    def held_out(
        self,
        leaked: SignalTable,
        folds: IntArray,
        rng: np.random.Generator,  # noqa: ARG002 - the protocol's; nothing here is random
    ) -> FloatArray:
        """Return the log likelihood ratio of each leaked scan by tubes fitted without the scan's fold.

        Raises:
            SignalError: if an error is not finite.
        """
        known = finite_errors(self, leaked)
        return out_of_fold(lambda fit, rows: self._ratios(leaked, fit, known[rows], leaked.age[rows]), folds)

    def _ratios(self, leaked: SignalTable, fit: IntArray, errors: FloatArray, ages: FloatArray) -> FloatArray:
        """Return log likelihood ratios of errors (years) at ages, by tubes of the leaked scans at ``fit``."""
        known, members, scale = finite_errors(self, leaked), leaked.is_member(), age_scale(leaked.age[fit])
        z = scale(ages)
        as_member, as_other = (
            _normal(known[rows], scale(leaked.age[rows]), z)
            for rows in (fit[members[fit]], fit[~members[fit]])
        )
        return log_ratio(errors, as_member, as_other)


def _normal(known: FloatArray, known_z: FloatArray, z: FloatArray) -> Normal:
    """Return the normal of errors at each ``z``, by the tube of ``known`` errors (years) at ``known_z``."""
    curve = fit_normal_curve(known, age_basis(known_z), known_z[:, None])
    return curve.at(age_basis(z), z[:, None])


TUBE = TubeRatio()
ATTACKS = (TUBE,)
