"""Promises of the means over pairs: their intervals cover, although pairs share victims and unseen people."""

import numpy as np
import pytest

from privoxel.evaluation.pairs import Groups, difference, mean_over_pairs, pair_accuracies

LEARNERS, OWN, UNSEEN, REPEATS = 6, 25, 30, 400


def one_draw(rng, shift):
    """Return scores in which every person has a part of its own that all attackers see."""
    members = tuple(np.arange(k * OWN, (k + 1) * OWN) for k in range(LEARNERS))
    unseen = np.arange(LEARNERS * OWN, LEARNERS * OWN + UNSEEN)
    size = LEARNERS * OWN + UNSEEN
    person = rng.standard_normal(size)
    scores = person + 0.5 * rng.standard_normal((LEARNERS, size))
    scores[:, : LEARNERS * OWN] += shift
    for attacker, rows in enumerate(members):
        scores[attacker, rows] = np.nan
    return scores, Groups(members, (unseen,) * LEARNERS, np.arange(size))


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_the_interval_of_the_mean_over_pairs_covers(shift):
    truth = {0.0: 0.5, 0.6: 0.5 + (_normal(0.6 / np.sqrt(1.25)) - 0.5) / 2}[shift]
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(REPEATS):
        scores, groups = one_draw(rng, shift)
        weights = groups.weights(rng, 200)
        mean = mean_over_pairs(pair_accuracies(scores, np.zeros(LEARNERS), groups, weights))
        covered += mean.low <= truth <= mean.high
    assert covered / REPEATS > 0.92


@pytest.mark.slow
def test_a_paired_excess_of_nothing_is_rarely_called_one():
    rng = np.random.default_rng(12)
    alarms = 0
    for _ in range(REPEATS):
        scores, groups = one_draw(rng, 0.6)
        other = scores + 0.3 * rng.standard_normal(scores.shape)
        third = scores + 0.3 * rng.standard_normal(scores.shape)
        weights = groups.weights(rng, 200)
        zero = np.zeros(LEARNERS)
        both = [pair_accuracies(s, zero, groups, weights) for s in (other, third)]
        alarms += mean_over_pairs(difference(*both)).low > 0
    assert alarms / REPEATS < 0.06


def _normal(x):
    from scipy.stats import norm  # noqa: PLC0415

    return float(norm.cdf(x))
