import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm, truncnorm

from privoxel.attacks.normal_curve import (
    FLOOR,
    PRIOR,
    Normal,
    NormalCurve,
    fit_normal_curve,
    log_ratio,
    mean_below_zero,
)


def age_and_more(rng, n):
    z = rng.normal(0, 1, n)
    return np.column_stack([z, z**2 - 1]), z[:, None]


def test_the_log_density_is_that_of_a_normal_at_the_scans_values():
    curve = NormalCurve(np.array([0.5, -0.3, 0.2]), np.array([0.7, 0.4]), 40)
    errors, z = np.array([1.0, -2.0, 0.3]), np.array([-1.2, 0.0, 0.9])
    densities = curve.at(np.column_stack([z, z**2 - 1]), z[:, None]).log_density(errors)
    for found, r, age in zip(densities, errors, z, strict=True):
        centre = 0.5 - 0.3 * age + 0.2 * (age * age - 1)
        sd = math.exp((0.7 + 0.4 * age) / 2)
        assert found == pytest.approx(norm.logpdf(r, centre, sd) + 0.5 * math.log(2 * math.pi))


def test_the_log_variance_minimises_the_penalised_gamma_deviance(rng):
    basis, spread = age_and_more(rng, 60)
    errors = 1.0 + 0.5 * basis[:, 0] + np.exp((0.4 + 0.6 * spread[:, 0]) / 2) * rng.normal(0, 1, 60)
    curve = fit_normal_curve(errors, basis, spread)
    centre = curve.mean[0] + basis @ curve.mean[1:]
    squares = [max(60 / 57 * (r - m) ** 2, FLOOR**2) for r, m in zip(errors, centre, strict=True)]

    def loss(theta):
        total = 0.0
        for square, value in zip(squares, spread[:, 0], strict=True):
            v = theta[0] + theta[1] * value
            total += (square * math.exp(-v) + v) / 60
        return total + 0.5 * PRIOR / 60 * theta[1] ** 2

    best = minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10})
    np.testing.assert_allclose(curve.log_variance, best.x, atol=5e-3)


def test_a_mean_and_a_spread_that_follow_given_values_are_found(rng):
    basis, spread = rng.normal(0, 1, (4000, 3)), rng.normal(0, 1, (4000, 2))
    sd = np.exp((0.4 + spread @ [0.8, -0.5]) / 2)
    curve = fit_normal_curve(0.5 + basis @ [-1.0, 0.0, 2.0] + sd * rng.normal(0, 1, 4000), basis, spread)
    np.testing.assert_allclose(curve.mean, [0.5, -1.0, 0.0, 2.0], atol=0.1)
    np.testing.assert_allclose(curve.log_variance, [0.4, 0.8, -0.5], atol=0.1)


def test_errors_that_are_all_the_same_give_a_finite_density():
    z = np.linspace(-1, 1, 9)[:, None]
    curve = fit_normal_curve(np.full(9, 0.25), z, z)
    assert np.isfinite(curve.at(z[:2], z[:2]).log_density(np.array([0.25, 5.0]))).all()


@pytest.mark.parametrize("centre", [-30.0, -4.0, -0.5, 0.0, 0.7, 3.0, 20.0])
def test_the_mean_below_zero_is_that_of_a_truncated_normal(centre):
    expected = truncnorm.mean(-np.inf, -centre, loc=centre)
    assert mean_below_zero(np.array([centre]))[0] == pytest.approx(expected, rel=1e-6)


def test_an_estimated_log_variance_far_below_that_of_others_stays_as_it_is():
    errors, mean = np.array([-3.0, 0.1, 2.0]), np.zeros(3)
    members, others = Normal(mean, mean, 100), Normal(mean + 0.2, mean + 2.0, 100)
    plain = members.log_density(errors) - others.log_density(errors)
    np.testing.assert_allclose(log_ratio(errors, members, others), plain, rtol=1e-6)


@pytest.mark.parametrize("excess", [-0.1, 0.0, 0.8])
def test_gross_errors_are_no_members_whatever_the_estimated_variances(excess):
    errors = np.array([-25.0, 0.0, 25.0])
    others = Normal(np.zeros(3), np.full(3, np.log(16.0)), 25)
    members = Normal(np.full(3, 0.5), others.log_variance + excess, 25)
    scores = log_ratio(errors, members, others)
    assert scores[1] > max(scores[0], scores[2]) + 1.0
