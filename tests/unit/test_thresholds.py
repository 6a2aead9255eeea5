import numpy as np
import pytest

from privoxel.attacks.thresholds import best_threshold
from tests.twins import metrics as twin


@pytest.mark.parametrize("seed", range(20))
def test_no_other_threshold_is_better(seed):
    rng = np.random.default_rng(seed)
    members = np.arange(29) < 11
    scores = (rng.normal(size=29) + rng.choice([-1.0, 0.0, 1.0]) * members).round(rng.integers(0, 3))
    got = twin.balanced_accuracy_at(scores, members, best_threshold(scores, members))
    assert got == pytest.approx(twin.best_balanced_accuracy(scores, members))


def test_the_threshold_lies_midway_between_two_scores():
    assert best_threshold([1.0, 2.0, 7.0, 8.0, 9.0], [False, False, True, True, True]) == 4.5


def test_of_equally_good_thresholds_the_middle_one_is_taken():
    scores = np.arange(6.0)
    assert best_threshold(scores, [False, True, False, True, False, True]) == 2.5


def test_the_lower_of_two_middle_thresholds_is_taken():
    assert best_threshold([0.0, 1.0, 2.0], [False, True, True]) == 0.5
    assert best_threshold([0.0, 1.0, 2.0, 3.0], [False, True, False, True]) == 0.5


def test_constant_or_inverted_scores_call_everyone_the_same():
    members = np.array([True, True, False])
    for scores in (np.full(3, 4.2), np.array([0.0, 1.0, 2.0])):
        called = scores > best_threshold(scores, members)
        assert called.all() or not called.any()


def test_order_and_scale_of_the_scores_do_not_matter():
    rng = np.random.default_rng(0)
    scores, members, order = rng.normal(size=41), rng.random(41) < 0.4, rng.permutation(41)
    limit = best_threshold(scores, members)
    assert best_threshold(scores[order], members[order]) == limit
    assert best_threshold(8.0 * scores, members) == 8.0 * limit


def test_neighbouring_floats_are_still_told_apart():
    scores = np.array([1.0, np.nextafter(1.0, 2.0)])
    limit = best_threshold(scores, [False, True])
    assert scores[0] <= limit < scores[1]


def test_huge_scores_do_not_overflow():
    assert best_threshold([-1.7e308, 1.7e308], [False, True]) == 0.0


@pytest.mark.parametrize(
    ("scores", "members", "message"),
    [
        ([0.0, 1.0], [True, True], "needs members and non-members, got 2 and 0"),
        ([0.0, np.nan], [True, False], "scores needs finite values"),
        ([0.0, 1.0], [True], "members needs 2 values"),
    ],
)
def test_unusable_scores_are_refused(scores, members, message):
    with pytest.raises(ValueError, match=message):
        best_threshold(scores, members)
