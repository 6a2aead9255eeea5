"""Tube likelihood ratio: members lie near a model-specific curve of error against age, others do not.

The error r (years) of members and of non-members is modelled apart: r ~ N(μ(z), exp(v(z))), with μ quadratic
and v linear in standardised age z. Score = log density as a member − log density as a non-member.
Weighted ridge regression for μ and a gamma regression of the squared residuals with a log link for v (the
likelihood equations of a normal variance function: Davidian & Carroll 1987) are repeated
in turn. Both penalties count as ``PRIOR`` scans without any trend in age, so that 25 members suffice.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel, finite_errors, leaked_table
from privoxel.attacks.centring import AgeScale, age_scale
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.thresholds import best_threshold
from privoxel.signals.table import PREDICTION, SignalTable

PRIOR = 10.0
ROUNDS = 3
FLOOR = 1e-3
COEFFICIENTS = 3


class Tube(NamedTuple):
    """Mean (offset, z, z² − 1) and log-variance (offset, z) of the error against standardised age."""

    mean: FloatArray
    log_variance: FloatArray

    def log_density(self, errors: FloatArray, z: FloatArray) -> FloatArray:
        """Return the log density of each error (years) at the standardised age ``z``, without −½ log 2π."""
        centre = self.mean[0] + self.mean[1] * z + self.mean[2] * (z**2 - 1.0)
        log_variance = self.log_variance[0] + self.log_variance[1] * z
        return np.asarray(-0.5 * ((errors - centre) ** 2 * np.exp(-log_variance) + log_variance))


def fit_tube(errors: FloatArray, z: FloatArray) -> Tube:
    """Return the tube of one class from its errors (years) and standardised ages.

    Variances are raised by n / (n − 3), at most threefold, for the coefficients of the mean, and are at least
    (10⁻³ years)².
    """
    from sklearn.linear_model import GammaRegressor, Ridge  # noqa: PLC0415 - listing attacks stays quick

    n = len(errors)
    basis = np.column_stack([z, z**2 - 1.0])
    spread = min(n / max(n - COEFFICIENTS, 1), 3.0)
    variance = np.full(n, max(float(errors.var()), FLOOR**2))
    mean, log_variance = np.zeros(3), np.array([np.log(variance[0]), 0.0])
    for _ in range(ROUNDS):
        weights = variance.mean() / variance
        ridge = Ridge(alpha=PRIOR).fit(basis, errors, sample_weight=weights)
        mean = np.array([ridge.intercept_, *ridge.coef_])
        squares = np.maximum(spread * (errors - ridge.predict(basis)) ** 2, FLOOR**2)
        scale = squares.mean()
        gamma = GammaRegressor(alpha=PRIOR / n, max_iter=1000).fit(z[:, None], squares / scale)
        log_variance = np.array([gamma.intercept_ + np.log(scale), gamma.coef_[0]])
        variance = np.exp(log_variance[0] + log_variance[1] * z)
    return Tube(mean, log_variance)


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
        "likelihood ratio of Carlini et al. 2022 with age in place of reference models; "
        "variance function of Davidian & Carroll 1987; not in Gupta et al. 2021"
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
        tubes = [_tube_of(known, leaked.age, fit[members[fit] == state], scale) for state in (True, False)]
        z = scale(ages)
        return tubes[0].log_density(errors, z) - tubes[1].log_density(errors, z)


def _tube_of(errors: FloatArray, ages: FloatArray, rows: IntArray, scale: AgeScale) -> Tube:
    return fit_tube(errors[rows], scale(ages[rows]))


TUBE = TubeRatio()
ATTACKS = (TUBE,)
