import numpy as np
import pytest

from privoxel.cohort.base import Covariates, ScanId
from privoxel.cohort.splits import (
    EXCLUDED,
    MEMBER,
    NON_MEMBER,
    Design,
    draw_design,
    membership_of,
    session_numbers,
    training_scans,
    without_training_scans,
)
from privoxel.errors import ConfigError
from tests.conftest import make_cohort


def people(n, *, sessions=1, seed=0):
    rng = np.random.default_rng(seed)
    scans = tuple(ScanId(f"p{i}", f"{s}" if sessions > 1 else "") for s in range(sessions) for i in range(n))
    age = np.tile(rng.uniform(20, 80, n), sessions)
    none = np.full(len(scans), "")
    return Covariates(scans, age, none, none)


def sizes(design):
    return [len(design.members), len(design.non_members), len(design.others), len(design.validation)]


@pytest.mark.parametrize("stratify", [None, "age"])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"members": 5, "non_members": 7, "others": 3, "validation": 2}, [5, 7, 3, 2]),
        ({"members": 0.5, "non_members": 0.5}, [10, 9, 0, 0]),
        ({"members": 1 / 3, "non_members": 1 / 3, "others": 1 / 3}, [6, 7, 6, 0]),
        ({"members": 9, "non_members": 0.25, "validation": 0.1}, [9, 5, 0, 2]),
        ({"members": np.int64(4), "non_members": np.float32(0.5)}, [4, 10, 0, 0]),
    ],
)
def test_groups_have_the_sizes_asked_for_and_are_disjoint(rng, stratify, asked, expected):
    design = draw_design(people(19, sessions=2), rng, stratify=stratify, **asked)
    assert sizes(design) == expected
    named = [*design.members, *design.non_members, *design.others, *design.validation]
    assert len(set(named)) == sum(expected)


def test_all_scans_of_a_participant_are_on_the_same_side(rng):
    covariates = people(11, sessions=3)
    membership = membership_of(draw_design(covariates, rng, members=4, non_members=5), covariates)
    assert membership.dtype == np.int8
    for participant in covariates.participants:
        mine = [
            m for scan, m in zip(covariates.scans, membership, strict=True) if scan.participant == participant
        ]
        assert len(set(mine)) == 1
    assert [int((membership == s).sum()) for s in (MEMBER, NON_MEMBER, EXCLUDED)] == [12, 15, 6]


def test_others_and_validation_are_excluded():
    covariates = people(5)
    membership = membership_of(Design(("p0",), ("p1",), ("p2",), ("p3",)), covariates)
    assert membership.tolist() == [MEMBER, NON_MEMBER, EXCLUDED, EXCLUDED, EXCLUDED]


@pytest.mark.parametrize("stratify", [None, "age"])
def test_everyone_is_as_likely_to_be_a_member(rng, stratify):
    covariates = people(11)
    counts = dict.fromkeys(covariates.participants, 0)
    for _ in range(600):
        for name in draw_design(covariates, rng, members=4, non_members=5, stratify=stratify).members:
            counts[name] += 1
    # binomial SD is 11.8
    assert all(abs(n - 600 * 4 / 11) < 60 for n in counts.values())


def test_a_stratified_draw_matches_the_ages():
    covariates = people(60)
    age = dict(zip(covariates.participants, covariates.age, strict=True))

    def gap(seed, stratify):
        design = draw_design(
            covariates, np.random.default_rng(seed), members=25, non_members=30, stratify=stratify
        )
        return np.mean([age[p] for p in design.members]) - np.mean([age[p] for p in design.non_members])

    plain = np.std([gap(seed, None) for seed in range(40)])
    matched = np.std([gap(seed, "age") for seed in range(40)])
    assert matched < plain / 3


def test_the_same_stream_draws_the_same_design():
    draws = [
        draw_design(people(19), np.random.default_rng(3), members=0.4, non_members=0.4) for _ in range(2)
    ]
    assert draws[0] == draws[1]
    assert draws[0] != draw_design(people(19), np.random.default_rng(4), members=0.4, non_members=0.4)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"members": 15, "non_members": 5}, "at most 19 participants, got members 15, non_members 5"),
        ({"members": 0.6, "non_members": 0.5}, "at most 19"),
        ({"members": 0, "non_members": 5}, "at least one member and one non-member"),
        ({"members": 0.01, "non_members": 0.5}, "at least one member"),
        ({"members": -1, "non_members": 5}, "count or a share for members, got -1"),
        ({"members": 3, "non_members": True}, "share for non_members, got True"),
        ({"members": 3, "non_members": float("nan")}, "share for non_members, got nan"),
    ],
)
def test_impossible_sizes_are_explained(rng, asked, message):
    with pytest.raises(ConfigError, match=message):
        draw_design(people(19), rng, **asked)


def test_a_population_is_a_group_of_its_own_and_changes_no_other_draw(rng):
    asked = {"members": 5, "non_members": 6, "others": 3}
    design = draw_design(people(19), rng, population=4, **asked)
    named = [*design.judged, *design.others, *design.population]
    assert [*sizes(design), len(design.population)] == [5, 6, 3, 0, 4]
    assert len(set(named)) == 18
    state = membership_of(design, people(19))
    assert (state[[int(name[1:]) for name in design.population]] == EXCLUDED).all()
    plain = [draw_design(people(19), np.random.default_rng(1), **asked, population=n) for n in (0, 0.0)]
    assert plain[0] == plain[1]


@pytest.mark.parametrize("stratify", [None, "age"])
def test_coins_are_independent_and_fair(stratify):
    rng, covariates = np.random.default_rng(7), people(18)
    asked = {"members": 9, "non_members": 9, "stratify": stratify, "coin": True}
    designs = [draw_design(covariates, rng, **asked) for _ in range(800)]
    assert {len(design.judged) for design in designs} == {18}
    counts = np.array([len(design.members) for design in designs])
    assert counts.mean() == pytest.approx(9.0, abs=0.3)
    assert counts.var() == pytest.approx(18 / 4, abs=0.9)  # that of 18 fair coins; 0 for fixed sizes
    pair = [[name in design.members for name in ("p3", "p4")] for design in designs]
    assert abs(np.corrcoef(np.array(pair).T)[0, 1]) < 0.14


def test_only_canaries_are_inserted():
    with pytest.raises(ConfigError, match="inserts canaries alone"):
        Design(("a",), ("b",), canaries=("c",), inserted=("d",))


def test_a_participant_cannot_be_in_two_groups():
    with pytest.raises(ConfigError, match="disjoint groups of participants, got 1 named twice"):
        Design(("a", "b"), ("b",))


def test_a_design_may_hold_members_alone():
    assert membership_of(Design(("000", "001"), ()), make_cohort(3).covariates).tolist() == [1, 1, -1]


def test_a_design_of_another_cohort_is_refused():
    with pytest.raises(ConfigError, match="at least one non-member"):
        membership_of(Design(("000",), ("stranger",)), make_cohort(5).covariates)


def visits(*scans: str) -> Covariates:
    ids = tuple(ScanId(*scan.split("/")) for scan in scans)
    n = len(ids)
    return Covariates(ids, np.linspace(50, 70, n), np.repeat("F", n), np.repeat("A", n))


def test_sessions_are_numbered_within_each_person_whatever_the_order_of_scans():
    people = visits("a/1", "b/2", "a/3", "a/3/x", "b/1", "c", "a/1/y")
    assert session_numbers(people).tolist() == [0, 1, 1, 1, 0, 0, 0]


def test_numbers_in_session_labels_count_as_numbers():
    people = visits("a/10", "a/2", "b/m12", "b/m06", "b/bl", "c/002", "c/1", "d/2", "d")
    assert session_numbers(people).tolist() == [1, 0, 2, 1, 0, 1, 0, 1, 0]


def test_sessions_that_train_may_be_named():
    people = visits("a/post", "a/pre", "b/pre", "b/pre/x", "c/post")
    assert training_scans(people, ("pre",)).tolist() == [False, True, True, True, False]
    assert training_scans(people, ("pre", "post")).all()
    assert without_training_scans(people, ("pre",)) == ("c",)
    assert without_training_scans(people, ("pre", "post")) == ()
    assert without_training_scans(people, 1) == without_training_scans(people, None) == ()


def test_a_named_session_that_nobody_has_is_refused():
    with pytest.raises(ConfigError, match=r"got none of 'base'\. Name sessions that there are: '2', '10'"):
        without_training_scans(visits("a/10", "a/2"), ("base", "2"))


def test_the_first_sessions_train_and_without_a_number_all_do():
    people = visits("a/1", "a/2", "a/3", "b/1", "c/2")
    assert training_scans(people, 1).tolist() == [True, False, False, True, True]
    assert training_scans(people, 2).tolist() == [True, True, False, True, True]
    assert training_scans(people, None).all()
