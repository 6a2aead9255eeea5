import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from privoxel.evaluation.intervals import auc_contributions
from privoxel.evaluation.metrics import (
    all_metrics,
    auc,
    balanced_accuracy,
    draws_for,
    non_members_needed,
    paired_auc_difference,
    to_metric,
    tpr_at_fpr,
)
from privoxel.evaluation.results import METRICS
from privoxel.evaluation.roc import roc_curve
from privoxel.evaluation.scored import Estimate, Evaluated
from tests.scores import Design, normal_grid, one_repeat, simulate
from tests.twins import metrics as twin

REPEATED = Design(members=41, non_members=103, repeats=5, fraction=0.32, most_scans=2, repeat_noise=0.3)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def repeated() -> Evaluated:
    return simulate(REPEATED, np.random.default_rng(4))


def test_the_auc_of_normal_quantiles_is_the_closed_form():
    got = auc(one_repeat(normal_grid(2000, 1.3), normal_grid(2500, 0.0)))
    assert got.value == pytest.approx(norm.cdf(1.3 / math.sqrt(2)), abs=5e-4)


def test_the_auc_is_scikit_learns_and_its_method_says_delong():
    evaluated = simulate(Design(), np.random.default_rng(1))
    got = auc(evaluated)
    assert got.value == pytest.approx(roc_auc_score(evaluated.members, evaluated.scores[0]))
    assert got.method == "DeLong"
    assert got.sd_repeats is None


def test_the_auc_is_averaged_within_repeats_and_never_pooled(repeated):
    shifted = Evaluated(
        repeated.scores + 100.0 * np.arange(5)[:, None],
        repeated.thresholds,
        repeated.members,
        repeated.participants,
    )
    assert auc(shifted) == auc(repeated)
    assert auc(repeated).value == pytest.approx(twin.auc_by_counting_pairs(repeated))
    assert auc(repeated).method == "DeLong, clustered by participant, 5 repeats"


def test_the_sd_over_repeats_is_a_column_of_its_own(repeated, rng):
    seen = [~np.isnan(row) for row in repeated.scores]
    each = [
        roc_auc_score(repeated.members[on], row[on]) for on, row in zip(seen, repeated.scores, strict=True)
    ]
    assert auc(repeated).sd_repeats == pytest.approx(np.std(each, ddof=1))
    for estimate in all_metrics(repeated, rng).values():
        assert (estimate.sd_repeats is None) == (estimate.value is None)


@pytest.mark.parametrize(
    ("members", "others", "value"), [([3, 4], [1, 2], 1.0), ([1, 2], [3, 4], 0.0), ([1, 1], [1, 1], 0.5)]
)
def test_no_interval_has_zero_width(members, others, value, rng):
    evaluated = one_repeat(np.repeat(members, 9), np.repeat(others, 8), threshold=2.5)
    for got in (auc(evaluated), balanced_accuracy(evaluated, rng)):
        assert got.value == value
        assert got.high - got.low > 0.1
        assert got.low <= value <= got.high


def test_a_perfect_auc_gets_the_exact_bound_from_separate_pairs():
    got = auc(one_repeat(np.arange(100.0, 130.0), np.arange(50.0)))
    assert got.low == pytest.approx(0.025 ** (1 / 30))
    assert (got.value, got.high) == (1.0, 1.0)


def test_one_participant_of_a_class_gives_no_information():
    got = auc(one_repeat([1.0], [0.0, 2.0, 0.5]))
    assert (got.low, got.high) == (0.0, 1.0)
    assert "one participant" in got.method


def test_balanced_accuracy_uses_each_repeats_own_threshold(repeated, rng):
    got = balanced_accuracy(repeated, rng)
    assert got.value == pytest.approx(twin.balanced_accuracy_by_counting(repeated))
    moved = Evaluated(repeated.scores, repeated.thresholds + 50.0, repeated.members, repeated.participants)
    assert balanced_accuracy(moved, rng).value == 0.5


def test_equal_generators_give_equal_metrics(repeated):
    first, second = (all_metrics(repeated, np.random.default_rng(7)) for _ in range(2))
    assert first == second
    assert list(first) == list(METRICS)


@pytest.mark.parametrize("fpr", [0.05, 0.1, 0.3])
def test_the_tpr_is_that_of_the_best_allowed_threshold(repeated, fpr, rng):
    wide = Design(members=23, non_members=67, repeats=2, fraction=0.97)
    evaluated = simulate(wide, np.random.default_rng(6))
    tied = Evaluated(
        evaluated.scores.round(1), evaluated.thresholds, evaluated.members, evaluated.participants
    )
    assert tpr_at_fpr(tied, fpr, rng=rng).value == pytest.approx(twin.tpr_by_trying_thresholds(tied, fpr))


def test_the_tpr_of_normal_quantiles_is_the_closed_form(rng):
    got = tpr_at_fpr(one_repeat(normal_grid(1500, 1.0), normal_grid(2000, 0.0)), 0.05, rng=rng, draws=50)
    assert got.value == pytest.approx(norm.sf(norm.isf(0.05) - 1.0), abs=2e-3)


def test_scores_that_tie_across_the_limit_are_not_called(rng):
    evaluated = one_repeat(np.ones(20), np.concatenate([np.ones(4), np.zeros(26)]))
    assert tpr_at_fpr(evaluated, 0.1, rng=rng).value == 0.0


def test_the_tpr_is_withheld_below_three_over_fpr_non_members(rng):
    evaluated = one_repeat(normal_grid(91, 1.0), normal_grid(91, 0.0))
    got = tpr_at_fpr(evaluated, 0.01, rng=rng)
    assert got == Estimate(
        None, None, None, 0.95, reason="needs at least 300 non-members for FPR 1 %, has 91"
    )
    assert all_metrics(evaluated, rng)["tpr_at_fpr_0.05"].value is not None
    assert [non_members_needed(fpr) for fpr in (0.01, 0.05, 0.1, 0.07)] == [300, 60, 30, 43]


def test_scans_of_one_person_do_not_count_as_many_non_members(rng):
    scores = np.concatenate([normal_grid(60, 1.0), normal_grid(60, 0.0)])[None]
    people = np.concatenate([np.arange(60), 60 + np.arange(60) // 3])
    evaluated = Evaluated(scores, np.zeros(1), np.arange(120) < 60, people)
    assert tpr_at_fpr(evaluated, 0.1, rng=rng).reason.endswith("has 20")


def test_a_rate_of_one_or_more_is_refused(repeated, rng):
    with pytest.raises(ValueError, match=r"fpr needs a rate between 0 and 1, got 1\.5"):
        tpr_at_fpr(repeated, 1.5, rng=rng)


def test_the_roc_curve_rises_to_one_inside_its_band(repeated, rng):
    curve = roc_curve(repeated, rng, points=17, draws=60)
    assert curve.fpr[0] == pytest.approx(1 / 33)
    assert curve.tpr[-1] == 1.0
    assert (np.diff(curve.tpr) >= 0.0).all()
    assert (curve.low <= curve.tpr).all()
    assert (curve.tpr <= curve.high).all()
    for fpr, tpr in zip(curve.fpr[::4], curve.tpr[::4], strict=True):
        assert tpr == pytest.approx(twin.tpr_by_trying_thresholds(repeated, fpr))


def test_a_metric_record_keeps_every_field_of_the_estimate():
    metric = to_metric(Estimate(0.7, 0.6, 0.8, 0.9, "DeLong", 0.01), paper=0.76)
    assert (metric.value, metric.low, metric.high, metric.level) == (0.7, 0.6, 0.8, 0.9)
    assert (metric.method, metric.sd_repeats, metric.paper) == ("DeLong", 0.01, 0.76)


def test_the_paired_difference_has_the_variance_of_the_double_loop(repeated):
    other = Evaluated(-(repeated.scores**2), repeated.thresholds, repeated.members, repeated.participants)
    got = paired_auc_difference(repeated, other)
    assert got.value == pytest.approx(auc(repeated).value - auc(other).value)
    half = (got.high - got.low) / 2.0
    both = auc_contributions(repeated).minus(auc_contributions(other))
    assert both.plain_variance == pytest.approx(twin.paired_variance(repeated, other))
    assert 1.95 < half / math.sqrt(both.variance) < 2.15


def test_pairing_narrows_the_difference_of_like_attacks():
    first = simulate(Design(members=97, non_members=101), np.random.default_rng(0))
    noisy = first.scores + 0.1 * np.random.default_rng(1).normal(size=first.scores.shape)
    second = Evaluated(noisy, first.thresholds, first.members, first.participants)
    paired, alone = paired_auc_difference(first, second), auc(first)
    assert paired.high - paired.low < 0.4 * (alone.high - alone.low)


def test_an_attack_compared_with_itself_differs_by_nothing_with_some_doubt(repeated):
    got = paired_auc_difference(repeated, repeated)
    assert got.value == 0.0
    assert got.low < 0.0 < got.high


def test_other_scans_cannot_be_paired(repeated):
    with pytest.raises(ValueError, match="needs the same scans in both"):
        paired_auc_difference(repeated, simulate(REPEATED, np.random.default_rng(9)))


def test_large_cohorts_get_fewer_draws():
    assert draws_for(one_repeat(np.zeros(60), np.zeros(60))) == 1000
    assert draws_for(one_repeat(np.zeros(50_000), np.zeros(50_000))) == 200


def test_a_hundred_thousand_scans_are_ranked_without_a_matrix_of_pairs():
    big = simulate(Design(members=50_000, non_members=50_000), np.random.default_rng(0))
    assert auc(big).value == pytest.approx(Design().auc, abs=0.01)


def test_accuracy_needs_a_threshold_that_was_set_without_knowing_who_is_judged(repeated):
    ranked = replace(repeated, thresholds=np.full(len(repeated.scores), np.nan))
    found = balanced_accuracy(ranked, np.random.default_rng(0))
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.reason == "nobody set a threshold without knowing who is judged"
