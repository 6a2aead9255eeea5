"""Errors as a normal distribution whose mean and log-variance are linear in given values: the fit of a tube.

Weighted ridge regression for the mean and a gamma regression of the squared residuals with a log link for the
variance (the likelihood equations of a normal variance function: Davidian & Carroll 1987) are repeated in
turn. Both penalties count as ``PRIOR`` scans without any trend, so that 25 members suffice.
"""

from typing import NamedTuple

import numpy as np

from privoxel.arrays import FloatArray

PRIOR = 10.0
ROUNDS = 3
FLOOR = 1e-3


class NormalCurve(NamedTuple):
    """Coefficients of the mean (years) and of the log-variance, the offset first."""

    mean: FloatArray
    log_variance: FloatArray

    def log_density(self, errors: FloatArray, basis: FloatArray, spread: FloatArray) -> FloatArray:
        """Return the log density of each error (years), without −½ log 2π.

        ``basis`` and ``spread`` (scans × values) are what mean and log-variance are linear in.
        """
        centre = self.mean[0] + basis @ self.mean[1:]
        log_variance = self.log_variance[0] + spread @ self.log_variance[1:]
        return np.asarray(-0.5 * ((errors - centre) ** 2 * np.exp(-log_variance) + log_variance))


def fit_normal_curve(errors: FloatArray, basis: FloatArray, spread: FloatArray) -> NormalCurve:
    """Return the curve of one class from its errors (years) and standardised ``basis`` and ``spread``.

    Variances are raised by n / (n − p), at most threefold, for the p coefficients of the mean, and are at
    least (10⁻³ years)².
    """
    from sklearn.linear_model import GammaRegressor, Ridge  # noqa: PLC0415 - listing attacks stays quick

    n = len(errors)
    inflation = min(n / max(n - basis.shape[1] - 1, 1), 3.0)
    variance = np.full(n, max(float(errors.var()), FLOOR**2))
    mean, log_variance = np.zeros(1), np.zeros(1)
    for _ in range(ROUNDS):
        ridge = Ridge(alpha=PRIOR).fit(basis, errors, sample_weight=variance.mean() / variance)
        mean = np.array([ridge.intercept_, *ridge.coef_])
        squares = np.maximum(inflation * (errors - ridge.predict(basis)) ** 2, FLOOR**2)
        scale = squares.mean()
        gamma = GammaRegressor(alpha=PRIOR / n, max_iter=1000).fit(spread, squares / scale)
        log_variance = np.array([gamma.intercept_ + np.log(scale), *gamma.coef_])
        variance = np.exp(log_variance[0] + spread @ log_variance[1:])
    return NormalCurve(mean, log_variance)
