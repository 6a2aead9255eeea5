import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privoxel.cohort.shadow_design import (
    ShadowDesign,
    balanced_design,
    distilled_design,
    population_design,
    repeats_or_complements,
)
from privoxel.errors import ConfigError
from tests.conftest import make_cohort

POOL = tuple(f"{k:03d}" for k in range(23))


@given(
    pool=st.integers(2, 41),
    count=st.integers(1, 9),
    fraction=st.sampled_from([0.5, 0.25, 1 / 3, 0.8, 1.0]),
    seed=st.integers(0, 999),
)
def test_everyone_is_inside_equally_often_and_every_shadow_is_equally_large(pool, count, fraction, seed):
    names = POOL[:1] + tuple(f"x{k}" for k in range(pool - 1))
    if round(pool * fraction) < 1:
        return
    inside = balanced_design(names, count, np.random.default_rng(seed), fraction=fraction).inside
    assert inside.shape == (count, pool)
    assert np.ptp(inside.sum(axis=0)) <= 1
    assert np.ptp(inside.sum(axis=1)) <= 1
    assert np.abs(inside.sum(axis=0) - count * fraction).max() < 1
    assert np.abs(inside.sum(axis=1) - pool * fraction).max() < 1


def test_an_odd_pool_is_halved_to_within_one():
    inside = balanced_design(POOL, 8, np.random.default_rng(0)).inside
    assert set(inside.sum(axis=1)) <= {11, 12}
    assert set(inside.sum(axis=0)) == {4}


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.7])
def test_the_training_fraction_is_honoured(fraction):
    inside = balanced_design(POOL, 20, np.random.default_rng(0), fraction=fraction).inside
    assert np.abs(inside.sum(axis=1) - fraction * 23).max() < 1


def test_designs_are_random_and_repeat_with_the_seed():
    first, again, other = (balanced_design(POOL, 6, np.random.default_rng(seed)).inside for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.3


def test_pairs_of_participants_are_together_as_often_as_chance_says():
    rng = np.random.default_rng(0)
    together = np.mean(
        [(m := balanced_design(POOL[:7], 4, rng).inside)[:, 0] @ m[:, 1] / 4 for _ in range(600)]
    )
    # Between 1/3 · ½ (sets of two of four, drawn apart) and ½ · ½; emptiest-first may lower it a little.
    assert 0.12 < together < 0.27


def test_neither_the_target_nor_its_complement_is_a_shadow():
    members = POOL[:2]
    for seed in range(60):
        design = balanced_design(POOL[:4], 3, np.random.default_rng(seed), target_members=members)
        theirs = np.array([True, True, False, False])
        assert not repeats_or_complements(design.inside, theirs).any()


def test_a_pool_that_allows_only_the_complement_is_refused():
    with pytest.raises(ConfigError, match="unlike the target and its complement"):
        balanced_design(POOL[:2], 2, np.random.default_rng(0), target_members=POOL[:1])


def test_population_shadows_hold_nobody_who_is_judged():
    design = population_design(POOL[:9], 3, np.random.default_rng(0), judged=POOL[9:], fraction=0.5)
    assert {name for k in range(3) for name in design.members(k)} <= set(POOL[:9])
    assert set(design.members(0)) | set(design.unseen(0)) == set(POOL[:9])
    with pytest.raises(ConfigError, match="not judged, got 2 who are"):
        population_design(POOL[:9], 3, np.random.default_rng(0), judged=POOL[7:])


def test_by_default_population_shadows_take_everyone():
    assert population_design(POOL, 2, np.random.default_rng(0), judged=()).inside.all()


def test_students_are_taught_on_everyone_who_is_not_judged():
    design = distilled_design(POOL[:9], 3, np.random.default_rng(0), judged=POOL[9:])
    assert design.pool == POOL[:9]
    assert design.inside.shape == (3, 9)
    assert design.inside.all()
    with pytest.raises(ConfigError, match="not judged, got 2 who are"):
        distilled_design(POOL[:9], 3, np.random.default_rng(0), judged=POOL[7:])
    with pytest.raises(ConfigError, match=r"not judged, got none. Set \[split\] others, or \[shadows\] dist"):
        distilled_design((), 3, np.random.default_rng(0), judged=POOL)


def test_membership_follows_participants_to_all_their_scans():
    covariates = make_cohort(5, sessions=2).covariates
    design = ShadowDesign(("001", "003", "004"), np.array([[True, False, False], [False, True, True]]))
    states = design.membership(covariates, excluded=("004",))
    assert states.tolist() == [
        [0, 0, 1, 1, 0, 0, 0, 0, -1, -1],
        [0, 0, 0, 0, 0, 0, 1, 1, -1, -1],
    ]


@pytest.mark.parametrize(
    ("count", "fraction", "message"),
    [
        (0, 0.5, "at least one shadow"),
        (2, 0.0, "fraction of 0 to 1"),
        (2, 1.5, "fraction"),
        (2, 0.01, "0.01"),
    ],
)
def test_numbers_that_allow_no_design_are_named(count, fraction, message):
    with pytest.raises(ConfigError, match=message):
        balanced_design(POOL, count, np.random.default_rng(0), fraction=fraction)
