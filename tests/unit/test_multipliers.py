"""The largest of many deviations against Student's t, and how many draws its quantile needs."""

import numpy as np
import pytest
from scipy import stats

from privoxel.evaluation.multipliers import draws_at, largest_deviation


@pytest.mark.parametrize("level", [0.9, 0.95, 0.975, 0.998, 0.9995])
def test_at_least_fifty_draws_lie_beyond_the_quantile(level):
    assert (draws_at(level) + 1) * (1.0 - level) > 49.999


def test_a_far_quantile_is_that_of_student_and_hardly_depends_on_the_draws():
    contributions = np.random.default_rng(1).normal(size=(1, 40))
    found = [largest_deviation(contributions, 30, np.random.default_rng(k), 0.998) for k in range(12)]
    exact = stats.t.ppf(0.999, 30)
    # The density at the quantile gives an SD of 0.05 with 24,999 draws; 999 draws give 0.27.
    assert np.std(found) < 0.12
    assert np.mean(found) == pytest.approx(exact, abs=0.1)


def test_one_copy_more_changes_nothing_and_one_of_its_own_does():
    first, second = np.random.default_rng(1).normal(size=(2, 40))
    alone, copied, two = (
        largest_deviation(np.stack(rows), 100, np.random.default_rng(2), 0.95)
        for rows in ([first], [first, 3.0 * first], [first, second])
    )
    assert copied == pytest.approx(alone)
    assert two > 1.08 * alone
