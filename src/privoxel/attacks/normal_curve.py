"""Errors as a normal distribution whose mean and log-variance are linear in given values: the fit of a tube.

Weighted ridge regression for the mean and a gamma regression of the squared residuals with a log link for the
variance (the likelihood equations of a normal variance function: Davidian & Carroll 1987) are repeated in
turn. Both penalties count as ``PRIOR`` scans without any trend, so that 25 members suffice.

Training draws members in and nobody out, so that their variance is below that of non-members; with few leaked
scans the estimates may say otherwise, and a likelihood ratio by them calls the grossest errors members.
``log_ratio`` keeps the order.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr

from privoxel.arrays import FloatArray

PRIOR = 10.0
ROUNDS = 3
FLOOR = 1e-3


class Normal(NamedTuple):
    """Mean (years) and log-variance of the error of each scan, and on how many scans they rest."""

    mean: FloatArray
    log_variance: FloatArray
    scans: int

    def log_density(self, errors: FloatArray) -> FloatArray:
        """Return the log density of each error (years), without −½ log 2π."""
        squares = (errors - self.mean) ** 2 * np.exp(-self.log_variance)
        return np.asarray(-0.5 * (squares + self.log_variance))


class NormalCurve(NamedTuple):
    """Coefficients of the mean (years) and of the log-variance, the offset first; fitted to so many scans."""

    mean: FloatArray
    log_variance: FloatArray
    scans: int

    def at(self, basis: FloatArray, spread: FloatArray) -> Normal:
        """Return the normal of each scan, linear in its ``basis`` and ``spread`` (scans × values)."""
        return Normal(
            self.mean[0] + basis @ self.mean[1:],
            self.log_variance[0] + spread @ self.log_variance[1:],
            self.scans,
        )


def log_ratio(errors: FloatArray, members: Normal, others: Normal) -> FloatArray:
    """Return the log density of each error (years) as a member minus that as a non-member.

    The members' variance is first brought below that of non-members: the log of their ratio is taken to be
    normal around its estimate, with standard error √(2/n + 2/m) for n members and m non-members, and is
    replaced by its mean given that it is negative. Estimates far below zero stay as they are.
    """
    step = np.sqrt(2.0 / members.scans + 2.0 / others.scans)
    excess = mean_below_zero((members.log_variance - others.log_variance) / step)
    ordered = members._replace(log_variance=others.log_variance + step * excess)
    return ordered.log_density(errors) - others.log_density(errors)


def mean_below_zero(centre: FloatArray) -> FloatArray:
    """Return E[X | X < 0] for normal X around each ``centre`` with SD 1.

    >>> np.round(mean_below_zero(np.array([-5.0, 0.0, 2.0])), 2).tolist()
    [-5.0, -0.8, -0.37]
    """
    log_density = -0.5 * (np.square(centre) + np.log(2.0 * np.pi))
    return np.asarray(np.minimum(centre - np.exp(log_density - log_ndtr(-centre)), 0.0))


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
    return NormalCurve(mean, log_variance, n)
