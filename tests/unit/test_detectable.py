"""The smallest AUC that an audit would have shown."""

import math

import pytest
from scipy.special import logit
from scipy.stats import norm, t

from privoxel.evaluation.detectable import (
    hanley_mcneil_variance,
    minimal_detectable_auc,
    minimal_detectable_excess,
    widening_of,
)
from privoxel.evaluation.scored import Estimate


def test_it_falls_with_size_and_meets_its_definition():
    sizes = [(20, 30), (60, 91), (694, 694), (5000, 7000)]
    limits = [minimal_detectable_auc(*size) for size in sizes]
    assert limits == sorted(limits, reverse=True)
    area = limits[2]
    spread = math.sqrt(hanley_mcneil_variance(area, 694, 694)) / (area * (1 - area))
    power = norm.cdf(logit(area) / spread - t.ppf(0.975, 2 * 693))
    assert power == pytest.approx(0.8, abs=1e-6)


def test_a_wider_interval_finds_less():
    plain = minimal_detectable_auc(100, 100)
    assert minimal_detectable_auc(100, 100, level=0.975) > plain
    assert minimal_detectable_auc(100, 100, widening=1.4) > plain
    assert minimal_detectable_auc(100, 100, widening=2.0) == pytest.approx(
        minimal_detectable_auc(25, 25), abs=0.02
    )


def test_the_widening_is_read_off_the_interval():
    spread = math.sqrt(hanley_mcneil_variance(0.7, 60, 91)) / (0.7 * 0.3)
    freedom = (1 / 60 + 1 / 91) ** 2 / (1 / 60**2 / 59 + 1 / 91**2 / 90)
    for factor, level in ((1.0, 0.95), (1.4, 0.95), (0.6, 0.975)):
        reach = factor * t.ppf(0.5 + level / 2, freedom) * spread
        low, high = (1 / (1 + math.exp(-(logit(0.7) + sign * reach))) for sign in (-1, 1))
        assert widening_of(Estimate(0.7, low, high, level), 60, 91) == pytest.approx(factor)


@pytest.mark.parametrize("ends", [(None, None, None), (1.0, 0.9, 1.0), (0.7, None, None)])
def test_without_an_interval_nothing_is_wider(ends):
    assert widening_of(Estimate(*ends), 60, 91) == 1.0


def test_an_excess_is_found_where_it_exceeds_its_interval_and_its_own_chance():
    found = minimal_detectable_excess(
        Estimate(0.01, 0.01 - 0.05 * norm.isf(0.025), 0.01 + 0.05 * norm.isf(0.025))
    )
    assert found == pytest.approx(0.05 * (norm.isf(0.025) + norm.isf(0.2)))
    assert minimal_detectable_excess(Estimate(0.1, None, None)) is None


def test_too_few_participants_can_detect_nothing():
    assert minimal_detectable_auc(1, 2) == 1.0
    with pytest.raises(ValueError, match="needs members and non-members"):
        minimal_detectable_auc(0, 100)


def test_hanley_and_mcneil_reduce_to_the_bernoulli_variance_for_one_pair():
    assert hanley_mcneil_variance(0.7, 1, 1) == pytest.approx(0.7 * 0.3)
