import math

import numpy as np
import pytest
from scipy import stats

from privoxel.evaluation.intervals import (
    all_alike_bound,
    auc_contributions,
    bootstrap_draws,
    bootstrap_interval,
    clopper_pearson,
    disjoint_pairs,
    effective_participants,
    logit_interval,
    participant_weights,
    placements,
    t_quantile,
    welch_freedom,
    wilson,
)
from privoxel.evaluation.metrics import auc
from privoxel.evaluation.scored import Evaluated
from privoxel.evaluation.weighted import weighted_auc, weighted_balanced_accuracy, weighted_tpr
from tests.scores import Design, one_repeat, simulate
from tests.twins import metrics as twin

CLUSTERED = Design(members=11, non_members=17, repeats=3, fraction=0.6, most_scans=4, repeat_noise=0.5)


def rounded(evaluated: Evaluated) -> Evaluated:
    """Scores with many ties."""
    return Evaluated(
        np.round(evaluated.scores, 1), evaluated.thresholds, evaluated.members, evaluated.participants
    )


@pytest.fixture
def clustered() -> Evaluated:
    return rounded(simulate(CLUSTERED, np.random.default_rng(5)))


def test_placements_count_the_negatives_below_and_half_the_ties():
    got = placements(np.array([0.0, 1.0, 2.5]), np.array([1.0, 2.0, 0.5, 1.0]))
    np.testing.assert_allclose(got, [0.0, 2 / 4, 1.0])


def test_the_mean_auc_and_its_contributions_are_those_of_the_double_loop(clustered):
    parts = auc_contributions(clustered)
    assert parts.auc.mean() == pytest.approx(twin.auc_by_counting_pairs(clustered), abs=1e-12)
    slow = twin.contributions_by_pairs(clustered)
    np.testing.assert_allclose(
        parts.members + parts.non_members, [slow[code] for code in sorted(slow)], atol=1e-14
    )
    assert parts.plain_variance == pytest.approx(twin.delong_variance(clustered), rel=1e-10)


def test_with_one_scan_each_the_variance_is_delongs():
    rng = np.random.default_rng(3)
    members, others = rng.normal(1, 1, 13).round(1), rng.normal(0, 1, 19).round(1)
    got = auc_contributions(one_repeat(members, others)).variance
    assert got == pytest.approx(twin.textbook_delong_variance(members, others), rel=1e-12)


def test_repeating_the_same_scores_adds_no_information():
    once = simulate(Design(), np.random.default_rng(0))
    thrice = Evaluated(np.repeat(once.scores, 3, axis=0), np.zeros(3), once.members, once.participants)
    assert auc_contributions(thrice).variance == pytest.approx(auc_contributions(once).variance)
    assert effective_participants(thrice) == pytest.approx((31, 43))


def test_copying_every_scan_adds_no_information():
    once = simulate(Design(), np.random.default_rng(0))
    copied = Evaluated(
        np.tile(once.scores, 2), once.thresholds, np.tile(once.members, 2), np.tile(once.participants, 2)
    )
    assert auc_contributions(copied).variance == pytest.approx(auc_contributions(once).variance)
    assert effective_participants(copied) == pytest.approx((31, 43))


def test_families_with_both_classes_cancel_what_their_members_share():
    """A family whose member and non-member move together says less about chance than two strangers."""
    rng = np.random.default_rng(1)
    shared = rng.normal(size=40)
    strangers = one_repeat(shared + 0.1 * rng.normal(size=40), shared + 0.1 * rng.normal(size=40))
    families = Evaluated(strangers.scores, strangers.thresholds, strangers.members, np.tile(np.arange(40), 2))
    apart, together = auc_contributions(strangers).variance, auc_contributions(families).variance
    assert together < 0.3 * apart


def test_the_effective_number_is_kishs(clustered):
    expected = (twin.mean_share_weights(clustered, True), twin.mean_share_weights(clustered, False))
    assert effective_participants(clustered) == pytest.approx(expected)
    assert expected[0] < CLUSTERED.members


def test_the_bound_for_all_alike_is_the_exact_binomial_one():
    assert all_alike_bound(30, 0.95) == pytest.approx(clopper_pearson(1.0, 30)[0])


def test_disjoint_pairs_leave_out_families_with_both_classes():
    evaluated = one_repeat(np.arange(7.0), np.arange(5.0))
    assert disjoint_pairs(evaluated) == 5
    codes = evaluated.participants.copy()
    codes[7] = codes[0]
    assert disjoint_pairs(Evaluated(evaluated.scores, evaluated.thresholds, evaluated.members, codes)) == 4


@pytest.mark.parametrize(("hits", "size"), [(0, 11), (3, 11), (11, 11), (40, 91)])
def test_clopper_pearson_is_scipys_exact_interval(hits, size):
    expected = stats.binomtest(hits, size).proportion_ci(0.95, "exact")
    np.testing.assert_allclose(clopper_pearson(hits / size, size), expected, atol=1e-9)


@pytest.mark.parametrize(("hits", "size"), [(0, 11), (3, 11), (11, 11), (40, 91)])
def test_wilson_is_scipys_score_interval(hits, size):
    expected = stats.binomtest(hits, size).proportion_ci(0.95, "wilson")
    np.testing.assert_allclose(wilson(hits / size, size), expected, atol=1e-9)


def test_a_participants_scans_are_drawn_together_and_classes_keep_their_size(clustered):
    weights = participant_weights(clustered, 29, np.random.default_rng(0))
    _, first, code = np.unique(clustered.participants, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(weights, weights[:, first][:, code])
    people, is_member = weights[:, first], clustered.members[first]
    np.testing.assert_array_equal(people[:, is_member].sum(axis=1), is_member.sum())
    np.testing.assert_array_equal(people[:, ~is_member].sum(axis=1), (~is_member).sum())
    assert people.var() > 0.5


@pytest.mark.parametrize(
    ("fast", "slow"),
    [
        (weighted_auc, twin.auc_by_counting_pairs),
        (weighted_balanced_accuracy, twin.balanced_accuracy_by_counting),
        (
            lambda e, w: weighted_tpr(e, w, np.array([0.21]))[:, 0],
            lambda e, w: twin.tpr_by_trying_thresholds(e, 0.21, w),
        ),
    ],
    ids=["auc", "balanced accuracy", "tpr"],
)
def test_weighted_metrics_are_those_of_the_loops(clustered, fast, slow):
    weights = participant_weights(clustered, 7, np.random.default_rng(2))
    np.testing.assert_allclose(
        fast(clustered, weights), [slow(clustered, row) for row in weights], atol=1e-12
    )


def test_a_repeat_without_members_in_a_draw_is_left_out_of_its_mean():
    scores = np.array([[2.0, np.nan, 0.0, 1.0], [np.nan, 0.5, 0.0, 1.0]])
    evaluated = Evaluated(scores, np.zeros(2), np.array([True, True, False, False]), np.arange(4))
    np.testing.assert_allclose(weighted_auc(evaluated, np.array([[1.0, 0.0, 1.0, 1.0]])), [1.0])


def test_the_bootstrap_agrees_with_delong_about_the_spread():
    evaluated = simulate(
        Design(members=80, non_members=90, repeats=3, fraction=0.5), np.random.default_rng(8)
    )
    draws = bootstrap_draws(weighted_auc, evaluated, draws=2000, rng=np.random.default_rng(0))
    assert draws.std() == pytest.approx(math.sqrt(auc_contributions(evaluated).plain_variance), rel=0.1)
    boot = bootstrap_interval(weighted_auc, evaluated, rng=np.random.default_rng(0))
    exact = auc(evaluated)
    assert boot.value == pytest.approx(exact.value)
    assert (boot.low, boot.high) == pytest.approx((exact.low, exact.high), abs=0.02)
    assert boot.method == "stratified participant bootstrap, 3 repeats"


def test_blocks_of_draws_do_not_change_the_number_of_draws(clustered, monkeypatch):
    monkeypatch.setattr("privoxel.evaluation.intervals._CHUNK", 5 * len(clustered.members))
    draws = bootstrap_draws(weighted_auc, clustered, draws=13, rng=np.random.default_rng(0))
    assert draws.shape == (13,)


def test_the_logit_interval_stays_inside_and_holds_its_value():
    low, high = logit_interval(0.99, 0.01, 1.96)
    assert 0.0 < low < 0.99 < high < 1.0
    assert logit_interval(0.999, 1.0, 50.0) == pytest.approx((0.0, 1.0))


def test_satterthwaites_freedom_lies_between_the_smallest_part_and_the_sum():
    assert welch_freedom((2.0, 7.0), (0.0, 3.0)) == pytest.approx(7.0)
    assert 7.0 < welch_freedom((1.0, 7.0), (1.0, 11.0)) < 18.0
    assert t_quantile(0.95, welch_freedom((0.0, 3.0))) == pytest.approx(1.959964, abs=1e-6)
