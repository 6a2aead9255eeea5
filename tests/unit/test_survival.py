"""How much of a leak survives with another scan of the same people."""

from dataclasses import replace

import numpy as np
import pytest

from privoxel.evaluation.scored import Evaluated
from privoxel.evaluation.survival import share_widening, surviving_share
from tests.scores import one_repeat


def sessions(first: float, second: float, size: int = 300, seed: int = 0) -> tuple[Evaluated, Evaluated]:
    rng = np.random.default_rng(seed)
    common = rng.normal(size=2 * size)
    scored = [
        common + 0.5 * rng.normal(size=2 * size) + shift * (np.arange(2 * size) < size)
        for shift in (first, second)
    ]
    one, two = (one_repeat(score[:size], score[size:]) for score in scored)
    return one, two


def test_the_same_scans_keep_all_of_it_without_any_doubt():
    one, _ = sessions(1.0, 0.0)
    share = surviving_share(one, one, np.random.default_rng(0), draws=50).share
    assert (share.value, share.low, share.high) == pytest.approx((1.0, 1.0, 1.0))


def test_the_share_is_the_ratio_of_what_lies_above_one_half():
    found = surviving_share(*sessions(1.2, 0.6), np.random.default_rng(0), draws=200)
    expected = (found.other_scan.value - 0.5) / (found.trained_on.value - 0.5)
    assert found.share.value == pytest.approx(expected)
    assert 0.0 < found.share.low < found.share.value < found.share.high < 1.0


def test_nothing_survives_where_the_other_scan_says_nothing():
    share = surviving_share(*sessions(1.5, 0.0), np.random.default_rng(0), draws=200).share
    assert share.low < 0.15
    assert share.high < 0.5


def test_there_is_no_share_of_a_leak_that_is_not_shown():
    share = surviving_share(*sessions(0.0, 0.5), np.random.default_rng(0), draws=20).share
    assert share.value is None
    assert "no leak is shown" in share.reason


def test_the_order_of_the_scans_of_a_session_does_not_matter():
    one, two = sessions(1.0, 0.5)
    order = np.random.default_rng(3).permutation(len(two.members))
    mixed = Evaluated(two.scores[:, order], two.thresholds, two.members[order], two.participants[order])
    first = surviving_share(one, two, np.random.default_rng(0), draws=50).share
    again = surviving_share(one, mixed, np.random.default_rng(0), draws=50).share
    assert first[:3] == pytest.approx(again[:3])


def cross_fitted(seed: int = 0, people: int = 160) -> tuple[Evaluated, Evaluated]:
    """Four attackers who were taught 20 numbers of a quarter of the people each and judge the others."""
    rng = np.random.default_rng(seed)
    members = np.arange(people) % 2 == 0
    person, quarter = rng.normal(size=(people, 20)), np.arange(people) // 2 % 4
    found = []
    for shift in (1.2, 0.8):
        signals = person + rng.normal(size=person.shape)
        signals[:, 0] += shift * members * np.sqrt(2.0)
        scores = np.full((4, people), np.nan)
        for attacker in range(4):
            known, judged = quarter == attacker, quarter != attacker
            weights = np.linalg.lstsq(signals[known], members[known] - 0.5, rcond=None)[0]
            scores[attacker, judged] = signals[judged] @ weights
        found.append(Evaluated(scores, np.zeros(4), members, np.arange(people)))
    return found[0], found[1]


def unlearned(one: Evaluated) -> Evaluated:
    """Return the same attackers, who now give a person all the same score."""
    given = np.random.default_rng(4).normal(size=len(one.members)) + one.members
    return replace(one, scores=np.where(np.isnan(one.scores), np.nan, given))


def test_attackers_who_judge_each_others_teachers_make_the_interval_wider():
    learned = cross_fitted()
    assert 1.1 < share_widening(*learned, 0.7) <= np.sqrt(2.0)
    assert share_widening(*map(unlearned, learned), 0.7) == pytest.approx(1.0, abs=0.06)


def test_other_people_are_refused():
    one, two = sessions(1.0, 0.5, size=20)
    with pytest.raises(ValueError, match="same members"):
        surviving_share(one, replace(two, participants=two.participants + 1), np.random.default_rng(0))
