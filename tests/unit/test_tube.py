import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from privoxel.attacks.base import Knowledge
from privoxel.attacks.svm import PREDICTION_LABEL_SVM
from privoxel.attacks.threshold import ABS_ERROR
from privoxel.attacks.tube import FLOOR, PRIOR, TUBE, Tube, fit_tube
from tests.tables import leak, make_table, with_errors


def auc(attack, split):
    result = attack.score(split.target.blinded(), Knowledge(leaked=split.leaked), np.random.default_rng(0))
    return roc_auc_score(split.target.is_member(), result.scores)


def test_the_log_density_is_that_of_a_normal_at_the_scans_age():
    tube = Tube(np.array([0.5, -0.3, 0.2]), np.array([0.7, 0.4]))
    errors, z = np.array([1.0, -2.0, 0.3]), np.array([-1.2, 0.0, 0.9])
    for found, r, age in zip(tube.log_density(errors, z), errors, z, strict=True):
        centre = 0.5 - 0.3 * age + 0.2 * (age * age - 1)
        sd = math.exp((0.7 + 0.4 * age) / 2)
        assert found == pytest.approx(norm.logpdf(r, centre, sd) + 0.5 * math.log(2 * math.pi))


def test_the_log_variance_minimises_the_penalised_gamma_deviance(rng):
    z = rng.normal(0, 1, 60)
    errors = 1.0 + 0.5 * z + np.exp((0.4 + 0.6 * z) / 2) * rng.normal(0, 1, 60)
    tube = fit_tube(errors, z)
    centre = tube.mean[0] + tube.mean[1] * z + tube.mean[2] * (z**2 - 1)
    squares = [max(60 / 57 * (r - m) ** 2, FLOOR**2) for r, m in zip(errors, centre, strict=True)]

    def loss(theta):
        total = 0.0
        for square, age in zip(squares, z, strict=True):
            v = theta[0] + theta[1] * age
            total += (square * math.exp(-v) + v) / 60
        return total + 0.5 * PRIOR / 60 * theta[1] ** 2

    best = minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10})
    np.testing.assert_allclose(tube.log_variance, best.x, atol=5e-3)


def test_a_spread_that_grows_with_age_is_found(rng):
    z = rng.normal(0, 1, 2000)
    tube = fit_tube(0.5 - z + np.exp((0.4 + 0.8 * z) / 2) * rng.normal(0, 1, 2000), z)
    np.testing.assert_allclose(tube.mean, [0.5, -1.0, 0.0], atol=0.15)
    np.testing.assert_allclose(tube.log_variance, [0.4, 0.8], atol=0.12)


def test_errors_that_are_all_the_same_give_a_finite_density():
    z = np.linspace(-1, 1, 9)
    tube = fit_tube(np.full(9, 0.25), z)
    assert np.isfinite(tube.log_density(np.array([0.25, 5.0]), np.array([0.0, 0.0]))).all()


def test_a_curve_and_a_spread_that_grow_with_age_are_read_better_than_by_absolute_error():
    table = make_table(members=300, non_members=301, gap=3.0, seed=4)
    split = leak(with_errors(table, table.error() + 1.0 + 0.3 * (table.age - 62.6)), per_class=100)
    assert auc(TUBE, split) > auc(ABS_ERROR, split) + 0.1
    assert auc(PREDICTION_LABEL_SVM, split) > auc(ABS_ERROR, split) + 0.1


def test_25_leaked_members_cost_little_where_there_is_nothing_but_a_smaller_spread():
    differences = []
    for seed in range(10):
        split = leak(make_table(members=250, non_members=251, gap=2.0, seed=seed), per_class=25, seed=seed)
        differences.append(auc(TUBE, split) - auc(ABS_ERROR, split))
    assert np.mean(differences) > -0.02


def test_a_person_with_two_scans_is_scored_scan_by_scan():
    split = leak(make_table(gap=3.0, scans_each=2), per_class=25)
    result = TUBE.score(split.target, Knowledge(leaked=split.leaked), np.random.default_rng(0))
    assert result.scores.shape == (len(split.target),)


def test_cross_validated_ratios_are_those_of_an_attack_for_each_fold():
    leaked = leak(make_table(gap=2.0), per_class=20).leaked
    folds = np.arange(len(leaked)) % 4
    fast = TUBE.held_out(leaked, folds, np.random.default_rng(0))
    for fold in range(4):
        rest = Knowledge(leaked=leaked.select(folds != fold))
        slow = TUBE.score(leaked.select(folds == fold).blinded(), rest, np.random.default_rng(1)).scores
        np.testing.assert_allclose(fast[folds == fold], slow, rtol=1e-12)
