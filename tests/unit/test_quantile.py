from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from privoxel.attacks.base import Knowledge
from privoxel.attacks.quantile import (
    QUANTILE,
    QUANTILE_ACTIVATION,
    QUANTILE_GAUSSIAN,
    QUANTILE_GAUSSIAN_ACTIVATION,
    Head,
    Judge,
    Learner,
    Vote,
    _components,
    _pooled,
    halves,
)
from privoxel.attacks.threshold import ABS_ERROR
from tests.tables import leak, make_table, with_errors


def auc(attack, split):
    result = attack.score(split.target.blinded(), Knowledge(leaked=split.leaked), np.random.default_rng(0))
    return roc_auc_score(split.target.is_member(), result.scores)


def test_the_pinball_head_gives_the_conditional_quantile(rng):
    x = rng.uniform(-1, 1, (3000, 1))
    y = 2.0 * (x[:, 0] > 0) + rng.normal(0, 1, 3000)
    margins = Learner(trees=60, quantile=0.8).fit(x, y, 0, head=Head.PINBALL)(x, y)
    for low, high in ((-1, 0), (0, 1)):
        inside = (x[:, 0] > low) & (x[:, 0] < high)
        assert (margins[inside] <= 0).mean() == pytest.approx(0.8, abs=0.05)


class Constant:
    def __init__(self, value):
        self.value = value

    def predict(self, features):
        return np.full(len(features), self.value)


def test_the_gaussian_head_counts_standard_deviations():
    judge = Judge(Constant(1.0), Constant(np.log(4.0)))
    np.testing.assert_allclose(judge(np.zeros((2, 1)), np.array([5.0, -1.0])), [2.0, -1.0])


def test_standardised_scores_of_non_members_have_standard_deviation_one(rng):
    # A regression on log squared residuals gives log σ² − 1.27; scores by it have SD 1.9.
    x = rng.integers(0, 2, (4000, 1)).astype(np.float64)
    error = np.where(x[:, 0] > 0, 6.0, 2.0) * rng.normal(0, 1, 4000)
    values = -np.sqrt(np.abs(error))
    vote = Learner().fit(x[:2000], values[:2000], 0, head=Head.GAUSSIAN)
    scores = vote(x[2000:], values[2000:])
    for state in (0.0, 1.0):
        assert scores[x[2000:, 0] == state].std() == pytest.approx(1.0, abs=0.1)
    assert scores.mean() == pytest.approx(0.0, abs=0.1)


def test_a_score_above_a_threshold_is_what_most_attackers_say(rng):
    # The mean of attackers is not their vote: one that is far off would outweigh all others.
    vote = Vote(tuple(Judge(Constant(c)) for c in (0.0, 0.1, 0.2, 50.0, 60.0)))
    values = rng.normal(0, 1, 200)
    votes = np.sum([values - judge.centre.value > 0 for judge in vote.judges], axis=0)
    np.testing.assert_array_equal(vote(np.zeros((200, 1)), values) > 0, votes >= 3)
    assert len(Learner().fit(values[:, None], values, 0, head=Head.PINBALL).judges) % 2 == 1


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_an_attacker_learns_on_half_of_the_scans_and_its_spread_on_the_other(size, rng):
    taught, rest = halves(size, rng)
    assert len(set(taught)) == len(taught) == max(size // 2, 1)
    if size > 1:
        assert sorted([*taught, *rest]) == list(range(size))


def test_only_non_members_teach_the_regression():
    split = leak(make_table(gap=2.0), per_class=25)
    moved = split.leaked.error() + np.where(split.leaked.is_member(), 50.0, 0.0)
    for attack in (QUANTILE, QUANTILE_GAUSSIAN):
        scores = [
            attack.score(split.target, Knowledge(leaked=leaked), np.random.default_rng(0)).scores
            for leaked in (split.leaked, with_errors(split.leaked, moved))
        ]
        np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("attack", [QUANTILE, QUANTILE_GAUSSIAN])
def test_people_whose_errors_are_large_anyway_are_judged_among_their_like(attack):
    table = make_table(members=500, non_members=501, gap=0.8, seed=6)
    hard = table.covariates.site == "a"
    split = leak(with_errors(table, table.error() * np.where(hard, 6.0, 1.0)), per_class=200)
    assert auc(attack, split) > auc(ABS_ERROR, split) + 0.02


def test_age_and_embedding_are_never_given_together():
    split = leak(make_table(), per_class=20)
    older = replace(split.target.covariates, age=split.target.age + 5.0)
    aged = replace(split.target, covariates=older)
    for attack in (QUANTILE_ACTIVATION, QUANTILE_GAUSSIAN_ACTIVATION):
        first, second = (attack._features(split.leaked, [t])[0] for t in (split.target, aged))
        np.testing.assert_array_equal(first, second)
    second = QUANTILE._features(split.leaked, [with_errors(split.target, np.zeros(len(split.target)))])[0]
    np.testing.assert_array_equal(QUANTILE._features(split.leaked, [split.target])[0], second)


def test_a_given_population_teaches_the_regression():
    split = leak(make_table(gap=2.0), per_class=25)
    others = make_table(members=0, non_members=90, seed=9)
    knowledge = Knowledge(leaked=split.leaked, population=others)
    result = QUANTILE.score(split.target, knowledge, np.random.default_rng(0))
    assert np.isfinite(result.scores).all()
    again = QUANTILE.score(split.target, Knowledge(leaked=split.leaked), np.random.default_rng(0))
    assert not np.array_equal(result.scores, again.scores)


def test_activations_are_averaged_over_space_by_channel(rng):
    maps = rng.normal(0, 1, (3, 4, 2, 5, 3))
    np.testing.assert_allclose(_pooled(maps)[2, 1], sum(maps[2, 1].ravel()) / 30)


def test_components_are_those_of_the_largest_variance(rng):
    rows = rng.normal(0, 1, (60, 7)) * np.array([1, 9, 1, 1, 5, 1, 1])
    axes = _components(rows - rows.mean(axis=0))
    assert axes.shape == (7, 5)
    assert np.argmax(np.abs(axes[:, 0])) == 1
    np.testing.assert_allclose(axes.T @ axes, np.eye(5), atol=1e-10)
