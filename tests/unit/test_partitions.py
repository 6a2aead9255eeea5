import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privoxel.cohort.base import Covariates, ScanId
from privoxel.cohort.partitions import Partition, age_bins, apportion, hold_out_unseen, labelled
from privoxel.errors import ConfigError
from tests.conftest import make_cohort


def cohort_of(ages, *, sessions=1, sites=None):
    """Covariates of participants p0, p1, … of these ages, session after session."""
    n = len(ages)
    scans = tuple(ScanId(f"p{i}", f"{s}" if sessions > 1 else "") for s in range(sessions) for i in range(n))
    site = np.tile(np.array(["A"] * n if sites is None else sites), sessions)
    return Covariates(scans, np.tile(np.asarray(ages, dtype=float), sessions), np.full(len(scans), ""), site)


def two_learners(**changes):
    given_ = {
        "learners": ("L1", "L2"),
        "groups": (("002", "000"), ("004",)),
        "unseen": ("001",),
        "environment": "uniform-iid",
    }
    return Partition(**(given_ | changes))


def test_rows_are_all_scans_of_the_learner_in_cohort_order():
    cohort = make_cohort(5, sessions=2)
    partition = two_learners()
    assert partition.rows(cohort, "L1").tolist() == [0, 1, 4, 5]
    assert partition.rows(cohort.covariates, "L2").tolist() == [8, 9]
    assert partition.rows(cohort, "unseen").tolist() == [2, 3]
    assert partition.sizes == (2, 1)
    assert repr(partition) == "Partition(uniform-iid: L1 2, L2 1; 1 unseen)"


def test_a_stranger_of_a_learner_is_explained():
    with pytest.raises(ConfigError, match="learners L1, L2, got 'L3'"):
        two_learners().rows(make_cohort(5), "L3")


def test_another_cohort_is_explained_without_naming_anyone():
    with pytest.raises(ConfigError, match="L2 needs 1 participants of this cohort, got 1 that") as e:
        two_learners().rows(make_cohort(3), "L2")
    assert "004" not in str(e.value)


def test_all_faults_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        two_learners(
            learners=("L1", "L2", "L3", "L1"),
            groups=(("a", "b", "b"), ("b", "c"), (), ("d",)),
            unseen=("a", "b"),
        )
    message = str(caught.value)
    for part in (
        "the name L1 2 times",
        "L3 without participants",
        "1 named twice in L1",
        "1 participants in both L1 and L2",
        "2 participants in both L1 and unseen",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learners": ("L1",)}, "1 names for 2 groups"),
        ({"learners": (), "groups": ()}, "no learner"),
        ({"learners": ("L1", "unseen")}, "the name unseen 2 times"),
    ],
)
def test_names_must_fit_the_groups(changes, message):
    with pytest.raises(ConfigError, match=message):
        two_learners(**changes)


def test_leaving_a_learner_out_keeps_the_names_of_the_others():
    left = two_learners().without("L1")
    assert (left.learners, left.groups, left.unseen) == (("L2",), (("004",),), ("001",))
    with pytest.raises(ConfigError, match="one of several, got 'L2' of L2"):
        left.without("L2")


def test_learners_are_named_by_size_and_among_equals_the_last_comes_first():
    partition = labelled([["a"], ["b", "c"], ["d", "e"], ["f", "g", "h"]], (), "x")
    assert partition.groups == (("f", "g", "h"), ("d", "e"), ("b", "c"), ("a",))


def test_the_unseen_set_has_the_papers_size_whatever_the_ages(rng):
    for ages in (rng.normal(62.6, 7.4, 10_446), rng.uniform(45, 80, 10_446)):
        training, unseen = hold_out_unseen(cohort_of(ages), rng)
        assert (len(training), len(unseen)) == (8356, 2090)


def test_a_fifth_of_every_age_bin_is_unseen(rng):
    counts = np.arange(5, 105, 5)
    ages = np.repeat(np.linspace(45, 80, 41)[1::2], counts)
    ages[0], ages[-1] = 45.0, 80.0
    assert np.bincount(age_bins(ages)).tolist() == counts.tolist()
    _, unseen = hold_out_unseen(cohort_of(ages), rng)
    held = ages[[int(name[1:]) for name in unseen]]
    edges = np.linspace(45, 80, 21)
    assert np.histogram(held, edges)[0].tolist() == (counts // 5).tolist()


def test_age_bins_are_those_of_a_histogram(rng):
    ages = rng.normal(60, 8, 500)
    expected = np.histogram(ages, 20)[0]
    assert np.bincount(age_bins(ages), minlength=20).tolist() == expected.tolist()
    assert age_bins(np.full(3, 60.0)).tolist() == [0, 0, 0]
    assert age_bins(np.zeros(0)).tolist() == []


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(5, 95), min_size=2, max_size=60),
    st.floats(0, 0.95),
    st.integers(1, 3),
    st.integers(0, 999),
)
def test_everyone_is_either_for_training_or_unseen(ages, share, sessions, seed):
    covariates = cohort_of(ages, sessions=sessions)
    count = int(np.ceil(share * len(ages) - 1e-9))
    if count == len(ages):
        with pytest.raises(ConfigError, match="leaves nobody"):
            hold_out_unseen(covariates, np.random.default_rng(seed), share)
        return
    training, unseen = hold_out_unseen(covariates, np.random.default_rng(seed), share)
    assert len(unseen) == count
    assert sorted([*training, *unseen]) == sorted(covariates.participants)


def test_everyone_is_as_likely_to_be_unseen(rng):
    covariates = cohort_of(np.linspace(45, 80, 100))
    counts = dict.fromkeys(covariates.participants, 0)
    for _ in range(300):
        for name in hold_out_unseen(covariates, rng, 0.4).unseen:
            counts[name] += 1
    assert all(abs(n - 120) < 45 for n in counts.values())  # binomial SD is 8.5


def test_sites_are_held_out_from_one_by_one(rng):
    sites = ["A"] * 50 + ["B"] * 10 + ["C"] * 21
    _, unseen = hold_out_unseen(cohort_of(rng.normal(60, 8, 81), sites=sites), rng, 0.2, by_site=True)
    assert np.unique([sites[int(name[1:])] for name in unseen], return_counts=True)[1].tolist() == [10, 2, 5]


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_an_impossible_share_is_explained(rng, share):
    with pytest.raises(ConfigError, match="share from 0 to below 1"):
        hold_out_unseen(cohort_of([50, 60]), rng, share)


@settings(deadline=None)
@given(st.integers(0, 500), st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any))
def test_parts_sum_to_the_total_and_are_at_most_one_off(total, weights):
    parts = apportion(total, np.array(weights))
    exact = total * np.array(weights) / sum(weights)
    assert parts.sum() == total
    assert (np.abs(parts - exact) < 1).all()
