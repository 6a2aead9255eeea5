"""Mean absolute errors of members and non-members, and their gap, with intervals."""

import numpy as np
import pytest
from scipy import stats

from privoxel.evaluation.utility import mean_errors


def made_up(seed: int = 0, members: int = 23, others: int = 31) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    is_member = np.arange(members + others) < members
    return rng.normal(0.0, np.where(is_member, 2.0, 4.0)), is_member, np.arange(members + others)


def test_with_one_scan_each_they_are_students_and_welchs():
    error, members, people = made_up()
    found = mean_errors(error, members, people)
    inside, outside = np.abs(error[members]), np.abs(error[~members])
    expected = stats.t.interval(0.95, len(inside) - 1, inside.mean(), stats.sem(inside))
    assert found.members[:3] == pytest.approx((inside.mean(), *expected))
    gap = stats.ttest_ind(outside, inside, equal_var=False).confidence_interval(0.95)
    assert found.gap[:3] == pytest.approx((outside.mean() - inside.mean(), gap.low, gap.high))


def test_more_scans_of_the_same_people_are_no_more_people():
    error, members, people = made_up(1)
    once = mean_errors(error, members, people)
    thrice = mean_errors(np.repeat(error, 3), np.repeat(members, 3), np.repeat(people, 3))
    for one, other in zip(once, thrice, strict=True):
        assert one[:3] == pytest.approx(other[:3])


def test_one_participant_has_no_interval_and_none_is_refused():
    error, members, people = made_up(2, members=1)
    found = mean_errors(error, members, people)
    assert (found.members.low, found.gap.high) == (None, None)
    assert found.non_members.low is not None
    with pytest.raises(ValueError, match="needs members and non-members, got 0 and 54"):
        mean_errors(made_up(3)[0], np.zeros(54, dtype=bool), np.arange(54))


def test_the_interval_of_the_gap_covers():
    rng, held = np.random.default_rng(4), 0
    truth = (4.0 - 2.0) * np.sqrt(2.0 / np.pi)
    for _ in range(400):
        found = mean_errors(rng.normal(0.0, np.repeat([2.0, 4.0], 80)), np.arange(160) < 80, np.arange(160))
        held += found.gap.low <= truth <= found.gap.high
    assert held / 400 >= 0.92
