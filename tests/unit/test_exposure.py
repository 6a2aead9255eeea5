"""What may be said of the exposed: shares, correlations, sites."""

import numpy as np
import pytest
from scipy import stats

from privoxel.evaluation.exposure import rank_correlation, shares_above, site_differences


def test_no_share_and_no_difference_of_two_shows_a_group_that_is_too_small():
    rng = np.random.default_rng(0)
    for _ in range(300):
        probability = rng.random(rng.integers(5, 60))
        k = int(rng.integers(2, 8))
        shown = [e.value for e in shares_above(probability, smallest=k) if e.value is not None]
        counts = [0, len(probability), *(round(v * len(probability)) for v in shown)]
        gaps = [abs(a - b) for a in counts for b in counts]
        assert all(gap == 0 or gap >= k for gap in gaps)


def test_shares_are_counted_and_their_intervals_are_exact():
    probability = np.repeat([0.2, 0.6, 0.8, 0.95], 25)
    found = shares_above(probability, smallest=5)
    assert [one.value for one in found] == [0.75, 0.5, 0.25]
    expected = stats.binomtest(25, 100).proportion_ci(method="exact")
    assert (found[2].low, found[2].high) == pytest.approx((expected.low, expected.high))
    assert "fewer than 26" in shares_above(probability, smallest=26)[0].reason


def test_the_correlation_is_spearmans_over_those_with_both_values():
    rng = np.random.default_rng(1)
    first = rng.normal(size=80)
    second = first + rng.normal(size=80)
    second[:10] = np.nan
    found = rank_correlation(first, second)
    assert found.value == pytest.approx(stats.spearmanr(first[10:], second[10:]).statistic)
    assert found.low < found.value < found.high


def test_the_interval_of_a_correlation_covers():
    rng = np.random.default_rng(2)
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # Spearman's of a bivariate normal with correlation 0.6
    held = 0
    for _ in range(400):
        first = rng.normal(size=50)
        second = 0.6 * first + 0.8 * rng.normal(size=50)
        found = rank_correlation(first, second)
        held += found.low <= truth <= found.high
    assert held / 400 >= 0.92


def test_a_correlation_without_spread_or_people_is_not_given():
    assert rank_correlation(np.zeros(20), np.arange(20.0)).value is None
    assert rank_correlation(np.arange(4.0), np.arange(4.0)).value is None


def test_the_site_that_is_exposed_is_found_and_small_sites_are_not_compared():
    rng = np.random.default_rng(3)
    site = ["a"] * 40 + ["b"] * 40 + ["c"] * 40 + ["d"] * 4
    probability = rng.normal(0.5, 0.1, 124) + 0.2 * (np.array(site) == "b")
    found = {one.site: one.difference for one in site_differences(probability, site, smallest=5)}
    assert set(found) == {"a", "b", "c"}
    assert found["b"].low > 0.1
    assert found["a"].high < 0.0
    assert site_differences(probability, ["only"] * 124, smallest=5) == ()
