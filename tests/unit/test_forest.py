import numpy as np
from sklearn.ensemble import RandomForestClassifier

from privoxel.attacks.base import Knowledge
from privoxel.attacks.forest import ErrorForest
from privoxel.attacks.thresholds import best_threshold
from tests.tables import leak, make_table


def test_scores_are_the_votes_of_a_default_forest_on_the_signed_error():
    split = leak(make_table(gap=3.0), per_class=30)
    result = ErrorForest().score(split.target, Knowledge(leaked=split.leaked), np.random.default_rng(2))
    votes = np.mean(
        [
            RandomForestClassifier(random_state=seed)
            .fit(split.leaked.error()[:, None], split.leaked.is_member())
            .predict_proba(split.target.error()[:, None])[:, 1]
            for seed in range(5)
        ],
        axis=0,
    )
    assert np.corrcoef(result.scores, votes)[0, 1] > 0.98
    assert ((result.scores >= 0) & (result.scores <= 1)).all()


def test_the_sign_of_the_error_is_used():
    table = make_table(members=150, non_members=151)
    error = np.where(table.is_member(), 2.0, -2.0) + np.random.default_rng(0).normal(0, 0.3, len(table))
    table = table.select(np.arange(len(table)))
    stored = np.tile((table.age + error).astype(np.float32), (1, 3, 1))
    table = type(table)(**{**vars(table), "values": {"prediction": type(table.values["prediction"])(stored)}})
    split = leak(table, per_class=40)
    result = ErrorForest().score(split.target, Knowledge(leaked=split.leaked), np.random.default_rng(2))
    called = result.scores > result.threshold
    np.testing.assert_array_equal(called, split.target.is_member())


def test_the_threshold_is_not_set_on_the_trees_own_training_scans():
    split = leak(make_table(members=90, non_members=91, gap=0.0), per_class=60)
    attack = ErrorForest()
    result = attack.score(split.target, Knowledge(leaked=split.leaked), np.random.default_rng(2))
    own = attack.score(split.leaked.blinded(), Knowledge(leaked=split.leaked), np.random.default_rng(2))
    # In sample a fully grown forest separates even noise, so its in-sample threshold is near one half.
    in_sample = best_threshold(own.scores, split.leaked.is_member())
    assert (own.scores[split.leaked.is_member()] > in_sample).mean() > 0.95
    assert result.threshold != in_sample


def test_the_number_of_trees_is_an_option():
    split = leak(make_table(gap=3.0), per_class=30)
    result = ErrorForest(trees=4).score(
        split.target, Knowledge(leaked=split.leaked), np.random.default_rng(2)
    )
    np.testing.assert_allclose(result.scores * 4, np.round(result.scores * 4), atol=1e-9)
