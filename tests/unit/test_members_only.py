"""Errors of members alone: robust windows against a slow twin, chance rates, and bands of enough people."""

from statistics import NormalDist

import numpy as np
import pytest

from privoxel.evaluation.members_only import (
    FEWEST,
    close_tail,
    errors_by_age,
    fit_among_neighbours,
    hard_tail,
    mean_with_interval,
)


def twin(age, error, window):
    """The same, one person at a time, with a sort of everybody else."""
    rows = []
    for k in range(len(age)):
        others = sorted((abs(age[j] - age[k]), j) for j in range(len(age)) if j != k)[:window]
        near = np.array([error[j] for _, j in others])
        middle = np.median(near)
        spread = 1.4826 * np.median(np.abs(near - middle))
        normal = NormalDist(middle, spread)
        chance = normal.cdf(abs(error[k])) - normal.cdf(-abs(error[k]))
        rows.append((middle, spread, (error[k] - middle) / spread, chance))
    return np.array(rows).T


def test_everyone_is_compared_with_the_nearest_in_age(rng):
    age = rng.uniform(20, 90, 61)
    error = rng.normal(0, 4, 61)
    np.testing.assert_allclose(fit_among_neighbours(age, error, window=11), twin(age, error, 11))


def test_who_is_fitted_unlike_others_of_the_age_is_found(rng):
    age = np.sort(rng.uniform(20, 90, 200))
    error = 0.2 * (55 - age) + rng.normal(0, 3, 200)  # regression to the mean age
    error[10], error[190] = error[10] + 25, 0.01
    fit = fit_among_neighbours(age, error)
    assert fit.is_hard[10]
    assert np.nanargmax(np.abs(fit.z)) == 10
    assert fit.is_close[190]  # near zero where others err by -6 years


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_normal_errors_seldom_call_for_more_than_chance(rng, slope):
    calls = np.zeros(2)
    for _ in range(40):
        age = rng.uniform(20, 90, 300)
        fit = fit_among_neighbours(age, slope * (55 - age) + rng.normal(0, 4, 300))
        calls += [close_tail(fit).is_more, hard_tail(fit).low > 0.02]
    assert (calls <= 5).all()


def test_an_excess_of_close_fits_is_told(rng):
    age, error = rng.uniform(20, 90, 300), rng.normal(0, 4, 300)
    error[:60] *= 0.02
    found = close_tail(fit_among_neighbours(age, error))
    assert found.is_more
    assert found.low < found.share < found.high


def test_equal_errors_have_no_spread_and_flag_nobody():
    fit = fit_among_neighbours(np.arange(30.0), np.ones(30))
    assert np.isnan(fit.z).all()
    assert not fit.is_hard.any()
    assert not fit.is_close.any()


def test_few_members_are_refused():
    with pytest.raises(ValueError, match=f"need {FEWEST} participants, got 19"):
        fit_among_neighbours(np.arange(19.0), np.zeros(19))


def test_bands_hold_enough_people_and_everybody_once():
    age = np.array([*[22.0] * 3, *[35.0] * 4, *[47.0] * 9, *[55.0] * 2, *[61.0] * 6, 88.0])
    error = np.arange(len(age), dtype=float) - 10
    bands = errors_by_age(age, error, smallest=5)
    assert [(band.low, band.high, band.size) for band in bands] == [(20, 40, 7), (40, 50, 9), (50, 90, 9)]
    assert bands[0].mae == pytest.approx(np.abs(error[:7]).mean())
    assert bands[0].mean == pytest.approx(error[:7].mean())
    assert errors_by_age(age[:4], error[:4], smallest=5) == []


def test_the_interval_of_a_mean_is_student_s():
    mean, low, high = mean_with_interval(np.array([1.0, 2.0, 3.0]))
    assert (mean, round(low, 3), round(high, 3)) == (2.0, -0.484, 4.484)
