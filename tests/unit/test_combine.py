import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from privoxel.evaluation.combine import all_over_targets, over_targets
from privoxel.evaluation.intervals import logit_interval, variance_between
from privoxel.evaluation.metrics import all_metrics, auc
from privoxel.evaluation.results import METRICS
from privoxel.evaluation.scored import Evaluated
from tests.scores import Design, one_repeat, simulate


def recoded(evaluated: Evaluated, offset: int) -> Evaluated:
    return replace(evaluated, participants=evaluated.participants + offset)


ORDINARY = Design()


def targets(count: int, design: Design = ORDINARY, *, apart: int = 1000) -> list[Evaluated]:
    rng = np.random.default_rng(count)
    return [recoded(simulate(design, rng), apart * k) for k in range(count)]


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("metric", ["auc", "balanced_accuracy", "tpr_at_fpr_0.1"])
def test_the_mean_over_targets_is_that_of_their_own_values(metric):
    several = targets(5)
    each = [all_metrics(target, generator())[metric].value for target in several]
    got = over_targets(several, metric, rng=generator())
    assert got.value == pytest.approx(np.mean(each))
    assert got.low < got.value < got.high
    assert got.method.startswith("5 targets × participants, t with ")


def test_one_target_gives_its_own_estimate():
    target = targets(1)[0]
    assert over_targets([target], "auc", rng=generator()) == auc(target)


def test_without_common_participants_it_is_students_interval_of_the_targets():
    several = [
        recoded(simulate(Design(shift=shift), generator()), k * 1000)
        for k, shift in enumerate((0.2, 1.0, 2.5))
    ]
    values = np.array([auc(target).value for target in several])
    variance = values.var(ddof=1) / 3
    got = over_targets(several, "auc", rng=generator())
    assert (got.low, got.high) == pytest.approx(
        logit_interval(values.mean(), variance, stats.t.ppf(0.975, 2))
    )


def test_trainings_of_one_design_are_no_more_draws_of_designs():
    """Of two designs trained three times each there are two draws, not six."""
    members = [np.arange(8) < 4, np.arange(8) % 2 == 0]
    trained = [Evaluated(np.zeros((1, 8)), np.zeros(1), members[k // 3], np.arange(8)) for k in range(6)]
    values = np.array([0.50, 0.52, 0.54, 0.70, 0.72, 0.74])
    assert variance_between(values, trained) == pytest.approx((0.2**2 / 2 / 2, 1.0))
    assert variance_between(values[:3], trained[:3]) == pytest.approx((0.02**2 / 3, 2.0))
    once = [trained[0], trained[3]]
    assert variance_between(values[[0, 3]], once) == pytest.approx((0.2**2 / 2 / 2, 1.0))


def test_the_same_participants_in_every_target_do_not_narrow_the_interval():
    """Four copies of one target say as much about participants as one of them."""
    target = targets(1, Design(members=61, non_members=71))[0]
    own, copies = auc(target), over_targets([target] * 4, "auc", rng=generator())
    assert copies.high - copies.low == pytest.approx(own.high - own.low, rel=0.1)
    strangers = over_targets([recoded(target, 1000 * k) for k in range(4)], "auc", rng=generator())
    assert strangers.high - strangers.low == pytest.approx((own.high - own.low) / 2.0, rel=0.1)


def test_targets_that_agree_by_luck_keep_the_participants_variance():
    target = targets(1)[0]
    got = over_targets([recoded(target, 1000 * k) for k in range(4)], "balanced_accuracy", rng=generator())
    assert got.high - got.low > 0.05


def test_a_member_here_who_is_a_non_member_there_is_one_participant():
    first = one_repeat(np.arange(20.0) + 5, np.arange(20.0))
    swapped = Evaluated(first.scores, first.thresholds, ~first.members, first.participants)
    got = over_targets([first, swapped], "auc", rng=generator())
    assert got.value == pytest.approx(0.5)


def test_perfect_targets_average_their_bounds():
    perfect = one_repeat(np.arange(100.0, 130.0), np.arange(40.0), threshold=50.0)
    got = over_targets([perfect, recoded(perfect, 1000)], "auc", rng=generator())
    assert got.value == 1.0
    assert got.low == pytest.approx(auc(perfect).low)


def test_a_metric_that_one_target_withholds_is_withheld():
    several = [*targets(2, Design(non_members=400)), *targets(1, Design(non_members=91))]
    got = over_targets(several, "tpr_at_fpr_0.01", rng=generator())
    assert got.value is None
    assert got.reason == "target 3: needs at least 300 non-members for FPR 1 %, has 91"


def test_the_sd_over_repeats_is_the_quadratic_mean():
    several = targets(3, Design(repeats=5, fraction=0.5))
    spreads = [auc(target).sd_repeats for target in several]
    got = over_targets(several, "auc", rng=generator())
    assert got.sd_repeats == pytest.approx(math.sqrt(np.mean(np.square(spreads))))


def test_every_metric_comes_back_and_repeats_exactly():
    several = targets(3, Design(members=23, non_members=67))
    first = all_over_targets(several, generator())
    assert list(first) == list(METRICS)
    assert first == all_over_targets(several, generator())


@pytest.mark.parametrize(("several", "metric"), [([], "auc"), (targets(1), "accuracy")])
def test_no_targets_or_an_unknown_metric_are_refused(several, metric):
    with pytest.raises(ValueError, match="over_targets needs targets and one of balanced_accuracy, auc"):
        over_targets(several, metric, rng=generator())
