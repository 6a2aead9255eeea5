"""Precision at the true prevalence."""

import numpy as np
import pytest
from scipy.stats import binom

from privoxel.evaluation.prevalence import precision_at, precision_of
from tests.scores import Design, simulate

BALANCED = {"hits": 40, "members": 100, "alarms": 10, "non_members": 100}


def test_at_equal_shares_it_is_the_share_of_right_calls():
    assert precision_at(**BALANCED, prevalence=0.5).value == pytest.approx(0.8)


def test_it_is_bayes_rule_counted_out_in_a_population():
    found = precision_at(**BALANCED, prevalence=0.02)
    members, others = 20_000, 980_000
    assert found.value == pytest.approx(0.4 * members / (0.4 * members + 0.1 * others))
    assert found.low < found.value < found.high


def test_it_falls_with_the_prevalence():
    values = [precision_at(**BALANCED, prevalence=p).value for p in (0.5, 0.1, 0.01, 0.001)]
    assert values == sorted(values, reverse=True)


def test_without_a_false_alarm_the_lower_end_still_allows_for_some():
    found = precision_at(hits=30, members=50, alarms=0, non_members=50, prevalence=0.01)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low < 0.15


def test_without_a_call_there_is_no_precision():
    found = precision_at(hits=0, members=9, alarms=0, non_members=9, prevalence=0.1)
    assert found.value is None
    assert "nobody" in found.reason


@pytest.mark.parametrize("change", [{"hits": 101}, {"alarms": -1}, {"non_members": 0, "alarms": 0}])
def test_counts_that_do_not_fit_are_refused(change):
    with pytest.raises(ValueError, match="counts"):
        precision_at(**(BALANCED | change), prevalence=0.1)


def test_the_interval_holds_the_truth_in_at_least_95_percent():
    rng, tpr, fpr, prevalence = np.random.default_rng(0), 0.3, 0.05, 0.05
    truth = prevalence * tpr / (prevalence * tpr + (1 - prevalence) * fpr)
    held = []
    for hits, alarms in zip(rng.binomial(60, tpr, 1000), rng.binomial(80, fpr, 1000), strict=True):
        found = precision_at(
            hits=int(hits), members=60, alarms=int(alarms), non_members=80, prevalence=prevalence
        )
        held.append(found.value is None or found.low <= truth <= found.high)
    assert sum(held) >= binom.ppf(1e-3, 1000, 0.95)


def test_the_precision_of_an_attack_is_that_of_its_own_calls():
    evaluated = simulate(Design(members=50, non_members=60, shift=1.2), np.random.default_rng(2))
    called = evaluated.scores[0] > evaluated.thresholds[0]
    hits, alarms = int(called[evaluated.members].sum()), int(called[~evaluated.members].sum())
    expected = precision_at(hits=hits, members=50, alarms=alarms, non_members=60, prevalence=0.1)
    found = precision_of(evaluated, 0.1)
    assert found[:3] == pytest.approx(expected[:3])


def test_over_repeats_the_rates_are_averaged_and_the_participants_counted_once():
    design = Design(members=50, non_members=60, shift=1.2, repeats=4)
    evaluated = simulate(design, np.random.default_rng(2))
    one = simulate(Design(members=50, non_members=60, shift=1.2), np.random.default_rng(2))
    assert precision_of(evaluated, 0.1)[:3] == pytest.approx(precision_of(one, 0.1)[:3])
    assert "4 repeats" in precision_of(evaluated, 0.1).method
