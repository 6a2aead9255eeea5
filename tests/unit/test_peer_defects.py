"""Numerical defects found in other tools, and that none of our attacks has them."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from privoxel.attacks import ATTACKS
from privoxel.attacks.base import Knowledge
from privoxel.attacks.influence import SELF_INFLUENCE
from privoxel.attacks.population import POPULATION, Sizes, share_of_larger
from privoxel.attacks.quantile import QUANTILE, QUANTILE_ACTIVATION, QUANTILE_GAUSSIAN
from privoxel.attacks.stacked import STACKED
from privoxel.attacks.svm import PREDICTION_LABEL_SVM
from privoxel.attacks.threshold import ABS_ERROR
from privoxel.attacks.thresholds import best_threshold
from privoxel.attacks.tube import TUBE
from tests.tables import Widths, leak, make_table, with_errors

FITTED = (TUBE, PREDICTION_LABEL_SVM, POPULATION, QUANTILE, QUANTILE_GAUSSIAN, SELF_INFLUENCE, STACKED)


def scored(attack, split, seed=0):
    return attack.score(split.target.blinded(), Knowledge(leaked=split.leaked), np.random.default_rng(seed))


def balanced_accuracy(result, truth):
    called = result.scores > result.threshold
    return (called[truth].mean() + (~called[~truth]).mean()) / 2


def test_a_small_loss_means_member_so_no_score_is_upside_down():
    """A loss attack that returns the wrong sign has an AUC of one minus the right one."""
    split = leak(make_table(members=150, non_members=151, gap=5.0, seed=2), per_class=50)
    for attack in (ABS_ERROR, *FITTED):
        assert roc_auc_score(split.target.is_member(), scored(attack, split).scores) > 0.6, attack.name


def test_a_column_of_ages_is_never_broadcast_against_a_row_of_predictions():
    """(N,) against (N, 1) silently gives N × N losses."""
    table = make_table(members=5, non_members=8)
    assert table.error().shape == (13,)
    slow = [float(p) - float(a) for p, a in zip(table.read("prediction"), table.age, strict=True)]
    np.testing.assert_allclose(table.error(), slow)
    split = leak(make_table(), per_class=20)
    for attack in FITTED:
        assert scored(attack, split).scores.shape == (len(split.target),), attack.name


def test_prediction_and_age_are_not_swapped():
    """The signed error is prediction minus age, as the gradient of the squared error is."""
    table = make_table(members=5, non_members=8)
    np.testing.assert_allclose(with_errors(table, np.full(13, 2.5)).error(), 2.5, atol=1e-5)


@pytest.mark.parametrize("attack", [QUANTILE, QUANTILE_GAUSSIAN, QUANTILE_ACTIVATION], ids=lambda a: a.name)
def test_no_scan_is_judged_by_a_quantile_model_that_was_trained_on_it(attack):
    """In sample, non-members lie near their own quantile and look better calibrated than anyone else."""
    split = leak(make_table(members=60, non_members=400, seed=3), per_class=50)
    own = split.leaked.select(~split.leaked.is_member())
    result = scored(attack, split._replace(target=own))
    fresh = scored(attack, split)
    # Scoring the training scans themselves is in sample; the threshold must not come from such scores.
    in_sample = best_threshold(
        attack.score(split.leaked.blinded(), Knowledge(leaked=split.leaked), np.random.default_rng(0)).scores,
        split.leaked.is_member(),
    )
    assert result.threshold == fresh.threshold
    assert fresh.threshold != in_sample


@pytest.mark.parametrize("attack", FITTED, ids=lambda a: a.name)
def test_a_threshold_is_not_tuned_on_the_scans_it_is_judged_on(attack):
    """With the membership of the target hidden or wrong, threshold and scores stay the same."""
    split = leak(make_table(gap=1.0), per_class=20)
    hidden = scored(attack, split)
    wrong = split.target.with_membership(~split.target.is_member())
    shown = attack.score(wrong, Knowledge(leaked=split.leaked), np.random.default_rng(0))
    assert shown.threshold == hidden.threshold
    np.testing.assert_array_equal(shown.scores, hidden.scores)


@pytest.mark.parametrize("attack", FITTED, ids=lambda a: a.name)
def test_zero_labels_or_an_offset_do_not_hide_a_leak_from_the_threshold(attack):
    """A tool that guesses which way its scores point calls everyone the same: accuracy 0.5 at AUC 0.77."""
    split = leak(make_table(members=200, non_members=201, gap=6.0, seed=5), per_class=80)
    assert balanced_accuracy(scored(attack, split), split.target.is_member()) > 0.6


def test_leverage_does_not_tell_who_was_leaked():
    """Curvature from leaked members has leverage near 1 for them and far more for everyone else."""
    wide = Widths(output=(1, 30, 1, 1, 1))
    accuracies = []
    for seed in range(4):
        split = leak(make_table(members=120, non_members=121, gap=1.5, seed=seed, widths=wide), per_class=40)
        accuracies.append(balanced_accuracy(scored(SELF_INFLUENCE, split), split.target.is_member()))
    assert np.mean(accuracies) > 0.55


def test_scores_belong_to_the_scan_in_the_same_row():
    """Wrong pairing: rows of the leaked table in another order change nothing but the folds' draw."""
    split = leak(make_table(gap=3.0), per_class=25)
    order = np.random.default_rng(1).permutation(len(split.leaked))
    for attack in (TUBE, PREDICTION_LABEL_SVM, POPULATION, SELF_INFLUENCE):
        first = scored(attack, split).scores
        second = scored(attack, split._replace(leaked=split.leaked.select(order))).scores
        np.testing.assert_allclose(first, second, rtol=1e-2, atol=1e-2, err_msg=attack.name)


def test_equal_scores_count_half_in_a_rank():
    """Counting ties as smaller (or larger) inflates one class."""
    same = Sizes(np.ones(7), np.full(7, 60.0))
    for bandwidth in (None, 5.0):
        np.testing.assert_allclose(share_of_larger(same, same, bandwidth), 0.5)


def test_every_registered_attack_keeps_ages_as_fractions_of_years():
    """Ages cast to whole years make the error of a well-fitted scan a rounding error."""
    table = make_table(members=5, non_members=8)
    near = with_errors(table, np.full(13, 0.25))
    result = ATTACKS["abs-error"].score(near, Knowledge(), np.random.default_rng(0))
    np.testing.assert_allclose(result.scores, -0.25, atol=1e-5)
