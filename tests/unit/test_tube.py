import numpy as np
from sklearn.metrics import roc_auc_score

from privoxel.attacks.base import Knowledge
from privoxel.attacks.svm import PREDICTION_LABEL_SVM
from privoxel.attacks.threshold import ABS_ERROR
from privoxel.attacks.tube import TUBE
from tests.tables import leak, make_table, with_errors


def auc(attack, split):
    result = attack.score(split.target.blinded(), Knowledge(leaked=split.leaked), np.random.default_rng(0))
    return roc_auc_score(split.target.is_member(), result.scores)


def test_a_curve_and_a_spread_that_grow_with_age_are_read_better_than_by_absolute_error():
    table = make_table(members=300, non_members=301, gap=3.0, seed=4)
    split = leak(with_errors(table, table.error() + 1.0 + 0.3 * (table.age - 62.6)), per_class=100)
    assert auc(TUBE, split) > auc(ABS_ERROR, split) + 0.1
    assert auc(PREDICTION_LABEL_SVM, split) > auc(ABS_ERROR, split) + 0.1


def test_25_leaked_members_cost_little_where_there_is_nothing_but_a_smaller_spread():
    differences = []
    for seed in range(10):
        split = leak(make_table(members=250, non_members=251, gap=2.0, seed=seed), per_class=25, seed=seed)
        differences.append(auc(TUBE, split) - auc(ABS_ERROR, split))
    assert np.mean(differences) > -0.02


def test_a_person_with_two_scans_is_scored_scan_by_scan():
    split = leak(make_table(gap=3.0, scans_each=2), per_class=25)
    result = TUBE.score(split.target, Knowledge(leaked=split.leaked), np.random.default_rng(0))
    assert result.scores.shape == (len(split.target),)


def test_cross_validated_ratios_are_those_of_an_attack_for_each_fold():
    leaked = leak(make_table(gap=2.0), per_class=20).leaked
    folds = np.arange(len(leaked)) % 4
    fast = TUBE.held_out(leaked, folds, np.random.default_rng(0))
    for fold in range(4):
        rest = Knowledge(leaked=leaked.select(folds != fold))
        slow = TUBE.score(leaked.select(folds == fold).blinded(), rest, np.random.default_rng(1)).scores
        np.testing.assert_allclose(fast[folds == fold], slow, rtol=1e-12)


def test_gross_errors_are_no_members_though_the_leaked_ones_look_wide():
    # Where the variance of 25 leaked members came out larger, the ratio grew with the error without bound.
    tops = []
    for seed in range(20):
        split = leak(make_table(members=150, non_members=151, gap=0.3, seed=seed), per_class=25, seed=seed)
        gross = split.target.error()
        gross[:2] = 25.0, -25.0
        scores = TUBE.score(
            with_errors(split.target, gross), Knowledge(split.leaked), np.random.default_rng(0)
        ).scores
        tops.append((scores[:2] > np.quantile(scores, 0.95)).any())
    assert sum(tops) == 0
