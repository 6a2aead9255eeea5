"""Promises of the means over pairs: their intervals cover, although pairs share victims and unseen people."""

import numpy as np
import pytest
from scipy.stats import binom, norm

from privoxel.evaluation.pairs import Groups, difference, mean_over_pairs, pair_accuracies

REPEATS = 1000
LARGE, SMALL, FEW_UNSEEN = (6, 25, 30), (3, 10, 12), (2, 40, 8)
SIZES = (LARGE, SMALL, FEW_UNSEEN)
"""Learners, participants of each, unseen participants."""


def one_draw(rng, shift, sizes=LARGE):
    """Return scores in which every person has a part of its own that all attackers see."""
    learners, own, unseen = sizes
    members = tuple(np.arange(k * own, (k + 1) * own) for k in range(learners))
    size = learners * own + unseen
    others = np.arange(learners * own, size)
    person = rng.standard_normal(size)
    scores = person + 0.5 * rng.standard_normal((learners, size))
    scores[:, : learners * own] += shift
    for attacker, rows in enumerate(members):
        scores[attacker, rows] = np.nan
    return scores, Groups(members, (others,) * learners, np.arange(size))


@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("shift", [0.0, 0.6, 1.5])
def test_the_interval_of_the_mean_over_pairs_covers(shift, sizes):
    truth = 0.5 + (norm.cdf(shift / np.sqrt(1.25)) - 0.5) / 2
    rng = np.random.default_rng(11)
    covered = above = 0
    for _ in range(REPEATS):
        scores, groups = one_draw(rng, shift, sizes)
        weights = groups.weights(rng, 300)
        mean = mean_over_pairs(pair_accuracies(scores, np.zeros(sizes[0]), groups, weights))
        covered += mean.low <= truth <= mean.high
        above += mean.low > truth
    # Two standard errors of the simulation are 0.014; the upper limits are binomial, at 1 in 1,000.
    assert covered / REPEATS > 0.936
    assert above <= binom.isf(1e-3, REPEATS, 0.03)


@pytest.mark.slow
def test_a_paired_excess_of_nothing_is_rarely_called_one():
    rng = np.random.default_rng(12)
    alarms = 0
    for _ in range(REPEATS):
        scores, groups = one_draw(rng, 0.6)
        other = scores + 0.3 * rng.standard_normal(scores.shape)
        third = scores + 0.3 * rng.standard_normal(scores.shape)
        weights = groups.weights(rng, 200)
        zero = np.zeros(LARGE[0])
        both = [pair_accuracies(s, zero, groups, weights) for s in (other, third)]
        alarms += mean_over_pairs(difference(*both)).low > 0
    assert alarms <= binom.isf(1e-3, REPEATS, 0.03)
