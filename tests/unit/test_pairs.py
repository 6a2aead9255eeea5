"""Accuracies of ordered pairs, and means over pairs that share people."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import norm, t

from privoxel.evaluation.pairs import (
    Groups,
    PairDraws,
    cells,
    difference,
    mean_over_attackers,
    mean_over_pairs,
    pair_accuracies,
    pair_aucs,
    successful_pairs,
)
from tests.twins.pairs import slow_accuracy, slow_auc

SIZES = (4, 7, 5)
UNSEEN = 9


def people(seed=0):
    """Return scores of three learners on 25 scans of 24 participants, NaN on their own, and who is who."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *SIZES])
    members = tuple(np.arange(a, b) for a, b in pairwise(starts))
    unseen = np.arange(starts[-1], starts[-1] + UNSEEN)
    participants = np.arange(starts[-1] + UNSEEN)
    participants[1] = participants[0]  # two scans of one person
    scores = rng.integers(-3, 4, (3, len(participants))).astype(float)
    for attacker, rows in enumerate(members):
        scores[attacker, rows] = np.nan
    return scores, np.array([0.0, 0.5, -1.0]), Groups(members, (unseen,) * 3, participants)


def test_every_pair_agrees_with_counting_by_hand():
    scores, thresholds, groups = people()
    weights = groups.weights(np.random.default_rng(1), 3)
    accuracies = pair_accuracies(scores, thresholds, groups, weights).values
    aucs = pair_aucs(scores, groups, weights).values
    for draw, row in enumerate(weights):
        for a in range(3):
            for v in range(3):
                if a == v:
                    assert np.isnan(accuracies[draw, a, v])
                    assert np.isnan(aucs[draw, a, v])
                    continue
                inside, outside = groups.members[v], groups.non_members[v]
                expected = slow_accuracy(scores[a], thresholds[a], inside, outside, row)
                assert accuracies[draw, a, v] == pytest.approx(expected)
                assert aucs[draw, a, v] == pytest.approx(slow_auc(scores[a], inside, outside, row))


def test_the_first_draw_is_the_data_and_others_resample_within_groups():
    _, _, groups = people()
    weights = groups.weights(np.random.default_rng(2), 50)
    assert (weights[0] == 1).all()
    for rows in (*groups.members, groups.non_members[0]):
        codes, first = np.unique(groups.participants[rows], return_index=True)
        assert (weights[1:, rows[first]].sum(axis=1) == len(codes) - 1).all()
    assert (weights[:, 0] == weights[:, 1]).all()


def test_the_spread_over_draws_is_the_standard_error_and_is_read_with_students_t():
    size, unseen, draws = 5, 6, 20_000
    groups = Groups((np.arange(size),), (np.arange(size, size + unseen),), np.arange(size + unseen))
    scores = np.array([[1.0, 1, 1, -1, -1, 1, 1, -1, -1, -1, -1]])
    weights = groups.weights(np.random.default_rng(4), draws)
    found = pair_accuracies(scores, np.zeros(1), groups, weights)
    rates = np.array([3 / 5, 2 / 6])
    variances = rates * (1 - rates) / np.array([size - 1, unseen - 1])
    assert found.values[1:].std() == pytest.approx(np.sqrt(variances.sum()) / 2, rel=0.02)
    parts = 1 / size, 1 / unseen
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (size - 1) + parts[1] ** 2 / (unseen - 1))
    assert groups.freedom([0]) == pytest.approx(freedom)
    tail = norm.cdf(t.isf(0.025, freedom))
    expected = np.quantile(found.values[1:, 0, 0], [1 - tail, tail])
    np.testing.assert_allclose(mean_over_pairs(found)[1:3], expected)
    assert mean_over_pairs(PairDraws(found.values)).high < expected[1]


def test_people_shared_by_comparison_sets_give_fewer_degrees_of_freedom_than_people_apart():
    rows = np.arange(60)
    shared = Groups((rows[:20], rows[20:40]), (rows[40:50], rows[40:50]), rows)
    apart = Groups((rows[:20], rows[20:40]), (rows[40:50], rows[50:]), rows)
    own, unseen = 1 / 20 / 2**2, 1 / 10
    expected = (2 * own + unseen) ** 2 / (2 * own**2 / 19 + unseen**2 / 9)
    assert shared.freedom([0, 1]) == pytest.approx(expected)
    assert apart.freedom([0, 1]) > 1.5 * shared.freedom([0, 1])


def test_the_mean_counts_every_pair_and_successes_only_those_above_one_half():
    values = np.full((3, 2, 2), np.nan)
    values[:, 0, 1] = 0.6, 0.62, 0.58
    values[:, 1, 0] = 0.3, 0.31, 0.29
    draws = PairDraws(values)
    mean = mean_over_pairs(draws)
    assert mean.value == pytest.approx(0.45)
    assert mean.low <= mean.value <= mean.high
    assert successful_pairs(draws) == (pytest.approx(0.6), 1)
    assert mean_over_attackers(draws, 0).value == pytest.approx(0.3)
    assert cells(draws)[0][0] is None
    assert cells(draws)[1][0].value == pytest.approx(0.3)


def test_no_successful_pair_has_no_mean():
    assert successful_pairs(PairDraws(np.full((2, 2, 2), 0.4))) == (None, 0)


def test_a_difference_is_taken_draw_by_draw():
    scores, thresholds, groups = people()
    weights = groups.weights(np.random.default_rng(3), 40)
    a = pair_accuracies(scores, thresholds, groups, weights)
    b = pair_accuracies(scores, thresholds + 1.0, groups, weights)
    both = difference(a, b)
    np.testing.assert_allclose(both.values, a.values - b.values)
    assert mean_over_pairs(difference(a, a)).high == 0.0


def test_differences_need_the_same_draws():
    with pytest.raises(ValueError, match=r"same draws and pairs, got \(2, 1, 1\) and \(3, 1, 1\)"):
        difference(PairDraws(np.ones((2, 1, 1))), PairDraws(np.ones((3, 1, 1))))
