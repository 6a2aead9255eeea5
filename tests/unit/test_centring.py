import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from privoxel.attacks.base import Knowledge
from privoxel.attacks.centred import CENTRED_CURVE, CENTRED_ERROR
from privoxel.attacks.centring import PRIOR, age_scale, centred, fit_centre
from privoxel.attacks.threshold import ABS_ERROR
from tests.tables import leak, make_table, with_errors


def auc(attack, split):
    result = attack.score(split.target.blinded(), Knowledge(leaked=split.leaked), np.random.default_rng(0))
    return roc_auc_score(split.target.is_member(), result.scores)


def test_the_centre_is_the_median_error_of_the_members():
    errors, members = np.array([1.0, 9.0, 2.0, -7.0, 6.0]), np.array([True, False, True, False, True])
    centre = fit_centre(errors, np.linspace(50, 70, 5), members)
    np.testing.assert_array_equal(centre(np.array([50.0, 80.0])), [2.0, 2.0])


def test_without_members_all_scans_give_the_centre():
    errors = np.array([1.0, 9.0, 2.0, -7.0, 6.0])
    assert fit_centre(errors, np.linspace(50, 70, 5)).offset == 2.0


def test_the_curve_minimises_the_penalised_sum_of_squares(rng):
    ages, errors = rng.normal(62, 7, 31), rng.normal(0, 2, 31)
    centre = fit_centre(errors, ages, curve=True)

    def loss(slope, bend):
        total = PRIOR * (slope**2 + bend**2)
        for age, error in zip(ages, errors, strict=True):
            z = (age - ages.mean()) / ages.std()
            total += (error - np.median(errors) - slope * z - bend * (z * z - 1)) ** 2
        return total

    best = loss(centre.slope, centre.bend)
    for step in (-0.01, 0.01):
        assert loss(centre.slope + step, centre.bend) > best
        assert loss(centre.slope, centre.bend + step) > best


def test_a_curve_of_age_is_found_and_not_carried_beyond_the_members_ages(rng):
    ages = rng.uniform(50, 75, 400)
    centre = fit_centre(3.0 + 0.2 * (ages - 62), ages, curve=True)
    np.testing.assert_allclose(centre(np.array([55.0, 70.0])), [1.6, 4.6], atol=0.25)
    assert centre(np.array([110.0]))[0] == centre(np.array([ages.max()]))[0]


def test_ages_that_are_all_the_same_give_a_constant():
    centre = fit_centre(np.array([1.0, 2.0, 4.0]), np.full(3, 60.0), curve=True)
    assert np.isfinite(centre(np.array([60.0]))).all()
    assert age_scale(np.full(3, 60.0)).sd == 1.0


@pytest.mark.parametrize("curve", [False, True])
def test_a_leaked_scan_has_no_part_in_its_own_centre(rng, curve):
    errors, ages = rng.normal(0, 2, 21), rng.normal(62, 7, 21)
    members, folds = np.arange(21) % 2 == 0, np.arange(21) % 3
    before = centred(errors, ages, members, folds, curve=curve)
    moved = errors + np.where(folds == 1, 100.0, 0.0)
    after = centred(moved, ages, members, folds, curve=curve)
    np.testing.assert_allclose(after[folds == 1] - before[folds == 1], 100.0)


def test_a_model_that_is_off_by_an_offset_is_read_as_well_as_one_that_is_not():
    table = make_table(members=250, non_members=251, gap=2.0, seed=4)
    shifted = with_errors(table, table.error() + 3.0)
    for case in (table, shifted):
        split = leak(case, per_class=50)
        assert auc(CENTRED_ERROR, split) > 0.75
    split = leak(shifted, per_class=50)
    assert auc(ABS_ERROR, split) < 0.65


def test_an_age_trend_of_the_members_is_followed_by_the_curve_only():
    table = make_table(members=250, non_members=251, gap=4.0, seed=4)
    split = leak(with_errors(table, table.error() + 0.4 * (table.age - 62.6)), per_class=80)
    assert auc(CENTRED_CURVE, split) > auc(CENTRED_ERROR, split) + 0.1
