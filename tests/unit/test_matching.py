import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privoxel.cohort.matching import age_matched
from privoxel.errors import ConfigError

some_ages = st.lists(st.floats(20, 90), max_size=30)


@settings(deadline=None)
@given(some_ages, some_ages, st.floats(0, 5), st.integers(0, 2**32))
def test_pairs_are_within_the_caliper_and_nobody_is_used_twice(unseen, reference, caliper, seed):
    match = age_matched(unseen, reference, np.random.default_rng(seed), caliper=caliper)
    assert len(set(match.unseen.tolist())) == len(match.unseen) == len(match.reference)
    assert sorted([*match.reference, *match.unmatched]) == list(range(len(reference)))
    for one, other in zip(match.unseen, match.reference, strict=True):
        assert abs(unseen[one] - reference[other]) <= caliper
    free = set(range(len(unseen))) - set(match.unseen.tolist())
    for late in match.unmatched:  # nobody stays alone while a suitable partner is free
        assert all(abs(unseen[k] - reference[late]) > caliper for k in free)


def test_matched_ages_are_those_of_the_reference_group(rng):
    unseen, reference = rng.normal(62.6, 7.4, 2090), rng.normal(68.8, 5.2, 700)
    match = age_matched(unseen, reference, rng)
    assert len(match.reference) > 500
    gaps = unseen[match.unseen] - reference[match.reference]
    assert abs(gaps.mean()) < 0.15
    assert abs(unseen.mean() - reference.mean()) > 5
    assert len(match.reference) + len(match.unmatched) == 700


def test_the_nearest_is_chosen_and_ties_of_age_are_drawn(rng):
    match = age_matched([40.0, 61.4, 60.2, 80.0], [60.0], rng, caliper=5)
    assert match.unseen.tolist() == [2]
    first = [age_matched([60.0, 60.0, 60.0], [60.0], rng).unseen[0] for _ in range(300)]
    assert min(np.bincount(first, minlength=3)) > 60


def test_the_reference_ages_choose_in_random_order(rng):
    lucky = [age_matched([60.0], [60.1, 59.9], rng).reference[0] for _ in range(200)]
    assert 60 < sum(lucky) < 140


def test_nobody_to_match_gives_empty_pairs(rng):
    match = age_matched([], [60.0, 61.0], rng)
    assert (match.unseen.size, match.unmatched.tolist()) == (0, [0, 1])
    assert age_matched([60.0], [], rng).unmatched.size == 0


@pytest.mark.parametrize("caliper", [-1.0, float("nan")])
def test_an_impossible_caliper_is_explained(rng, caliper):
    with pytest.raises(ConfigError, match=f"caliper of 0 years or more, got {caliper}"):
        age_matched([60.0], [60.0], rng, caliper=caliper)
