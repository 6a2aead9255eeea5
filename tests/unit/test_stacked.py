from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from privoxel.attacks import stacked as stacked_module
from privoxel.attacks.base import Knowledge
from privoxel.attacks.folds import leaked_folds
from privoxel.attacks.stacked import STACKED, STACKED_ENSEMBLE, Leaked, StackedAttack, _logs
from privoxel.errors import SignalError
from tests.tables import PAPER_3D, leak, make_table, with_signal


def scored(split, attack=STACKED, seed=0):
    return attack.score(split.target.blinded(), Knowledge(leaked=split.leaked), np.random.default_rng(seed))


def test_it_sees_what_a_linear_classifier_on_raw_gradients_does_not():
    split = leak(make_table(members=200, non_members=201, gap=4.0, seed=3), per_class=60)
    truth = split.target.is_member()
    raw = [t.read("gradient:output").reshape(len(t), -1) for t in split[::-1]]
    linear = LogisticRegression(max_iter=1000).fit(raw[0], split.leaked.is_member()).decision_function(raw[1])
    assert abs(roc_auc_score(truth, linear) - 0.5) < 0.2
    assert roc_auc_score(truth, scored(split).scores) > 0.85


@pytest.mark.parametrize("per_class", [2, 3, 25])
def test_few_leaked_participants_are_enough(per_class):
    split = leak(make_table(members=120, non_members=121, gap=6.0, seed=3), per_class=per_class)
    result = scored(split)
    assert np.isfinite(result.scores).all()
    if per_class == 25:
        assert roc_auc_score(split.target.is_member(), result.scores) > 0.8


def test_the_threshold_is_out_of_fold():
    """Fitted and scored on the same scans, pure noise would look separable."""
    shares = []
    for seed in range(5):
        split = leak(make_table(members=80, non_members=81, gap=0.0, seed=seed), per_class=40, seed=seed)
        result = scored(split)
        truth = split.target.is_member()
        called = result.scores > result.threshold
        shares.append((called[truth].mean() + (~called[~truth]).mean()) / 2)
    assert abs(np.mean(shares) - 0.5) < 0.1


def test_gradients_are_read_where_there_are_any_and_must_be_finite():
    split = leak(make_table(gap=2.0), per_class=20)
    bare = [replace(t, values={n: a for n, a in t.values.items() if ":" not in n}) for t in split]
    assert scored(split._replace(target=bare[0], leaked=bare[1])).notes == ("stacked groups=2",)
    assert scored(split).notes == ("stacked groups=5",)
    broken = split.target.read("gradient:conv6")
    broken[3] = np.nan
    with pytest.raises(SignalError, match="needs finite gradient:conv6, got 1 scans"):
        scored(split._replace(target=with_signal(split.target, "gradient:conv6", broken)))


def test_the_sign_of_a_gradient_is_turned_with_the_sign_of_the_error():
    table = make_table(members=9, non_members=9)
    mirrored = with_signal(table, "prediction", 2 * table.age - table.read("prediction"))
    mirrored = with_signal(mirrored, "gradient:output", -table.read("gradient:output"))
    first, second = (STACKED._gradient_features(t, "gradient:output", 3) for t in (table, mirrored))
    np.testing.assert_allclose(first, second, rtol=1e-5)


def test_features_do_not_depend_on_how_scans_are_chunked(monkeypatch):
    table = make_table(members=20, non_members=13)
    whole = StackedAttack(width=5)._gradient_features(table, "gradient:conv6", 3)
    monkeypatch.setattr("privoxel.attacks.stacked.CHUNK", 7)
    parts = StackedAttack(width=5)._gradient_features(table, "gradient:conv6", 3)
    np.testing.assert_allclose(parts, whole, rtol=1e-9)
    assert whole.shape == (33, 6)


def test_structural_zeros_do_not_vary_whatever_their_rounding():
    logs = _logs(np.array([[2.0, 1e-9, 1.0], [2.0, 3e-12, 1.0]]))
    np.testing.assert_array_equal(logs[0], logs[1])


def test_gradients_of_the_papers_width_are_read():
    split = leak(make_table(members=20, non_members=21, gap=3.0, widths=PAPER_3D), per_class=10)
    assert np.isfinite(scored(split).scores).all()


LIGHT = StackedAttack(width=5, classifiers=("logistic",))


def folds_of(leaked):
    return leaked_folds(leaked, np.random.default_rng(4))


def test_cross_validated_scores_are_those_of_a_stack_for_each_fold():
    """The slow way: features of the selected tables, a stack for each fold."""
    leaked = leak(make_table(gap=2.0), per_class=20).leaked
    folds, rng = folds_of(leaked), np.random.default_rng(9)
    fast = LIGHT.held_out(leaked, folds, np.random.default_rng(9))
    seed, names = int(rng.integers(2**31)), tuple(sorted(n for n in leaked.values if "gradient:" in n))
    for fold in range(5):
        rest, rows = leaked.select(folds != fold), leaked.select(folds == fold)
        known, unknown = (LIGHT._groups(table, names, seed) for table in (rest, rows))
        slow = LIGHT._stack(Leaked(rest, known), leaked_folds(rest, rng), unknown).scores
        np.testing.assert_allclose(fast[folds == fold], slow, rtol=1e-6, atol=1e-8)


def test_the_membership_of_a_fold_does_not_reach_its_scores():
    leaked = leak(make_table(gap=2.0), per_class=20).leaked
    folds = folds_of(leaked)
    flipped = leaked.with_membership(np.where(folds == 2, ~leaked.is_member(), leaked.is_member()))
    first, second = (LIGHT.held_out(t, folds, np.random.default_rng(9)) for t in (leaked, flipped))
    np.testing.assert_array_equal(first[folds == 2], second[folds == 2])


def test_every_gradient_is_read_once_for_all_folds(monkeypatch):
    leaked, read = leak(make_table(gap=2.0), per_class=20).leaked, []
    through = stacked_module.finite_signal
    monkeypatch.setattr(
        stacked_module, "finite_signal", lambda a, table, name: read.append(name) or through(a, table, name)
    )
    LIGHT.held_out(leaked, folds_of(leaked), np.random.default_rng(9))
    assert sorted(n for n in read if n != "prediction") == sorted(
        n for n in leaked.values if n.startswith("gradient")
    )


def test_each_classifier_counts_by_how_well_it_orders_leaked_scans():
    split = leak(make_table(members=200, non_members=201, gap=4.0, seed=3), per_class=60)
    truth = split.target.is_member()
    aucs = [roc_auc_score(truth, scored(split, replace(STACKED, temperature=t)).scores) for t in (0.05, 1e6)]
    assert aucs[0] > aucs[1] - 0.02
    assert scored(split, STACKED_ENSEMBLE).notes == ("stacked groups=5",)
