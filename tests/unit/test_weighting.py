import numpy as np
import pytest

from privoxel.attacks.weighting import auc_of, exponential_weights, weigh


def slow_auc(scores, members):
    """Every pair of a member and a non-member, one after the other."""
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in scores[members] for b in scores[~members]]
    return sum(wins) / len(wins)


def slow_weigh(leaked, target, members, folds, temperature):
    """The formula scan by scan and part by part."""

    def combine(fit, column):
        aucs = [slow_auc(part[fit], members[fit]) for part in leaked]
        raw = [np.exp(a / temperature) for a in aucs]
        total = 0.0
        for part, weight, value in zip(leaked, raw, column, strict=True):
            known = part[fit]
            mean = sum(known) / len(known)
            sd = (sum((v - mean) ** 2 for v in known) / len(known)) ** 0.5
            total += weight / sum(raw) * (value - mean) / sd
        return total

    everyone = np.ones(len(members), dtype=bool)
    held_out = [combine(folds != folds[k], leaked[:, k]) for k in range(len(members))]
    return np.array(held_out), np.array([combine(everyone, column) for column in target.T])


def case(rng, parts=3, scans=23, others=7):
    members = np.arange(scans) % 2 == 0
    leaked = rng.normal(0, 2, (parts, scans)) + members
    leaked[0] = np.round(leaked[0])
    return leaked, rng.normal(0, 2, (parts, others)), members, np.arange(scans) // 2 % 4


def test_scores_and_weights_are_those_of_the_formula(rng):
    leaked, target, members, folds = case(rng)
    found = weigh(leaked, target, members, folds, temperature=0.05)
    held_out, scores = slow_weigh(leaked, target, members, folds, 0.05)
    np.testing.assert_allclose(found.leaked, held_out, rtol=1e-9)
    np.testing.assert_allclose(found.target, scores, rtol=1e-9)
    assert found.weights.sum() == pytest.approx(1.0)


def test_the_auc_is_that_of_all_pairs(rng):
    scores, members = np.round(rng.normal(0, 1, 31), 1), rng.random(31) < 0.4
    assert auc_of(scores, members) == pytest.approx(slow_auc(scores, members))


def test_a_cold_temperature_takes_the_best_and_a_hot_one_everyone_alike():
    aucs = np.array([0.6, 0.8, 0.7])
    np.testing.assert_allclose(exponential_weights(aucs, 1e-4), [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(exponential_weights(aucs, 1e4), [1 / 3] * 3, rtol=1e-4)


def test_a_part_that_calls_everyone_the_same_says_nothing(rng):
    leaked, target, members, folds = case(rng)
    leaked[1], target[1] = 2.0, np.arange(7.0)
    moved = target.copy()
    moved[1] += 5.0
    first, second = (weigh(leaked, t, members, folds, temperature=0.05).target for t in (target, moved))
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)


def test_the_weights_of_a_leaked_scan_did_not_see_its_membership(rng):
    leaked, target, members, folds = case(rng)
    before = weigh(leaked, target, members, folds, temperature=0.02).leaked
    flipped = np.where(folds == 1, ~members, members)
    after = weigh(leaked, target, flipped, folds, temperature=0.02).leaked
    np.testing.assert_allclose(after[folds == 1], before[folds == 1])
    assert not np.allclose(after[folds != 1], before[folds != 1])
