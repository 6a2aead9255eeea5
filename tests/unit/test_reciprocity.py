"""Intervals where cross-fitted attackers judge each other's teachers."""

import numpy as np
import pytest

from privoxel.evaluation.intervals import auc_contributions
from privoxel.evaluation.metrics import auc, balanced_accuracy, tpr_at_fpr
from privoxel.evaluation.reciprocity import widened, widening, widening_of_calls
from privoxel.evaluation.scored import Evaluated
from tests.scores import MEMBERS, OTHERS, learned
from tests.twins.reciprocity import slow_widening


@pytest.mark.parametrize("protocol", ["audit", "reproduction"])
def test_the_factor_is_that_of_the_loops(protocol):
    parts = auc_contributions(learned(np.random.default_rng(1), 7, protocol))
    expected = slow_widening(parts.parts, parts.seen, parts.kinds)
    assert 1.0 < expected <= np.sqrt(2.0)
    assert parts.widening == pytest.approx(expected)


def test_one_attacker_and_attackers_who_do_not_learn_need_none():
    alone = learned(np.random.default_rng(2), 7)
    first = Evaluated(alone.scores[:1], alone.thresholds[:1], alone.members, alone.participants)
    assert auc_contributions(first).widening == 1.0
    assert auc_contributions(learned(np.random.default_rng(3), 3, learns=False)).widening < 1.02


def test_it_never_more_than_doubles_the_variance():
    rng = np.random.default_rng(4)
    seen = np.repeat(~np.eye(4, dtype=bool), 5, axis=1)
    parts = np.where(seen, rng.normal(size=seen.shape), 0.0)
    assert widening(parts, seen, np.zeros(20, dtype=int)) <= np.sqrt(2.0)
    assert widening(np.zeros_like(parts), seen, np.zeros(20, dtype=int)) == 1.0


@pytest.mark.parametrize("protocol", ["audit", "reproduction"])
def test_the_spread_of_attackers_who_learn_noise_is_told(protocol):
    rng = np.random.default_rng(5)
    parts = [auc_contributions(learned(rng, 50, protocol)) for _ in range(250)]
    spread = np.std([part.auc.mean() for part in parts])
    told = np.sqrt(np.mean([part.variance for part in parts]))
    plain = np.sqrt(np.mean([part.plain_variance for part in parts]))
    # An audit knows who was leaked; elsewhere everyone not judged counts as leaked, which is cautious.
    assert 0.87 * spread < told < {"audit": 1.15, "reproduction": 1.35}[protocol] * spread
    assert plain < {"audit": 0.88, "reproduction": 0.95}[protocol] * spread


def test_rates_are_widened_by_their_own_factor():
    evaluated = learned(np.random.default_rng(6), 50)
    right = (evaluated.scores > 0.0) == evaluated.members
    factor = widening_of_calls(evaluated, right, (True, False))
    assert 1.1 < factor < np.sqrt(2.0)
    estimate = balanced_accuracy(evaluated, np.random.default_rng(0))
    assert estimate.low < estimate.value - 1.1 * 1.96 * 0.5 / np.sqrt(2 * (MEMBERS + OTHERS) / 2) / 2
    rate = tpr_at_fpr(evaluated, 0.2, rng=np.random.default_rng(0))
    assert rate.low <= rate.value <= rate.high
    assert auc(evaluated).low < 0.5


def test_an_interval_grows_on_both_sides_and_stays_a_fraction():
    assert widened(0.5, 0.4, 0.7, 1.5) == pytest.approx((0.35, 0.8))
    assert widened(0.9, 0.6, 0.99, 4.0) == (0.0, 1.0)
