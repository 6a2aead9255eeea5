"""What every metric must keep, whatever it measures."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from privoxel.evaluation.combine import over_targets
from privoxel.evaluation.results import METRICS
from privoxel.evaluation.scored import Estimate, Evaluated
from tests.scores import Design, normal_grid, one_repeat, simulate

DESIGNS = {
    "one repeat": Design(members=61, non_members=307),
    "68/32 repeats": Design(members=130, non_members=970, repeats=5, fraction=0.32, repeat_noise=0.4),
    "several scans": Design(members=47, non_members=311, repeats=3, fraction=0.98, most_scans=3),
    "no leak": Design(members=61, non_members=307, shift=0.0),
    "nearly perfect": Design(members=61, non_members=307, shift=5.0),
    "tiny": Design(members=3, non_members=5),
}

Measure = Callable[[Evaluated], Estimate]


@pytest.fixture(params=METRICS)
def metric(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def measure(metric: str, monkeypatch: pytest.MonkeyPatch) -> Measure:
    monkeypatch.setattr("privoxel.evaluation.combine.draws_for", lambda _: 200)
    return lambda evaluated: over_targets([evaluated], metric, rng=np.random.default_rng(11))


@pytest.fixture(params=DESIGNS)
def evaluated(request: pytest.FixtureRequest) -> Evaluated:
    return simulate(DESIGNS[request.param], np.random.default_rng(2))


def assert_same(first: Estimate, second: Estimate) -> None:
    assert first[3:5] == second[3:5]
    if first.value is None:
        assert first == second
    else:
        np.testing.assert_allclose(first[:3], second[:3], rtol=1e-9)


def test_the_value_lies_within_its_interval_and_all_are_fractions(measure, evaluated):
    got = measure(evaluated)
    if got.value is None:
        assert (got.low, got.high) == (None, None)
        assert got.reason.startswith("needs at least")
    else:
        assert 0.0 <= got.low <= got.value <= got.high <= 1.0
        assert got.low < got.high
        assert got.method
        assert (got.sd_repeats is None) == (len(evaluated.scores) == 1)


def test_the_order_of_the_scans_does_not_matter(measure, evaluated):
    order = np.random.default_rng(0).permutation(len(evaluated.members))
    permuted = Evaluated(
        evaluated.scores[:, order],
        evaluated.thresholds,
        evaluated.members[order],
        evaluated.participants[order],
    )
    assert_same(measure(permuted), measure(evaluated))


def test_the_order_of_the_repeats_does_not_matter(measure, evaluated):
    flipped = replace(evaluated, scores=evaluated.scores[::-1], thresholds=evaluated.thresholds[::-1])
    assert_same(measure(flipped), measure(evaluated))


def test_a_strictly_increasing_transform_of_scores_and_thresholds_does_not_matter(measure, evaluated):
    curved = replace(
        evaluated, scores=np.exp(evaluated.scores / 3.0), thresholds=np.exp(evaluated.thresholds / 3.0)
    )
    assert_same(measure(curved), measure(evaluated))


def test_the_names_of_the_participants_do_not_matter(measure, evaluated):
    assert_same(measure(replace(evaluated, participants=5 * evaluated.participants + 2)), measure(evaluated))


def test_the_input_is_left_as_it_was(measure, evaluated):
    before = evaluated.scores.copy()
    for array in (evaluated.scores, evaluated.members, evaluated.participants, evaluated.thresholds):
        array.flags.writeable = False
    measure(evaluated)
    np.testing.assert_array_equal(evaluated.scores, before)


def enough(metric):
    """How many times as many people a metric needs as the others do."""
    return 10 if metric == "tpr_at_fpr_0.001" else 1


def test_constant_scores_are_no_better_than_guessing(measure, metric):
    got = measure(one_repeat(np.full(40, 2.0), np.full(320 * enough(metric), 2.0), threshold=2.0))
    assert got.value == (0.0 if metric.startswith("tpr") else 0.5)
    assert got.high - got.low > 0.01


def test_inverted_scores_are_worse(measure, evaluated):
    got = measure(evaluated)
    inverted = measure(replace(evaluated, scores=-evaluated.scores, thresholds=-evaluated.thresholds))
    if got.value is not None and got.low > 0.5:
        assert inverted.value < 0.5


def test_quantiles_of_two_normals_give_the_closed_form(measure, metric):
    size, shift = 4000, 1.1
    got = measure(one_repeat(normal_grid(size, shift), normal_grid(size, 0.0), threshold=shift / 2.0))
    fpr = float(metric.removeprefix("tpr_at_fpr_")) if metric.startswith("tpr") else math.nan
    expected = {
        "auc": norm.cdf(shift / math.sqrt(2.0)),
        "balanced_accuracy": norm.cdf(shift / 2.0),
    }.get(metric, norm.sf(norm.isf(fpr) - shift))
    assert got.value == pytest.approx(expected, abs=2e-3)
    assert got.low < expected < got.high


def test_more_participants_narrow_the_interval(measure, metric):
    widths = []
    for size in (310 * enough(metric), 3100 * enough(metric)):
        got = measure(simulate(Design(members=size, non_members=size), np.random.default_rng(1)))
        widths.append(got.high - got.low)
    assert widths[1] < 0.6 * widths[0]


def test_the_mean_over_targets_lies_within_its_interval(metric):
    size = 310 * enough(metric)
    design = Design(members=size, non_members=size) if enough(metric) > 1 else DESIGNS["one repeat"]
    targets = [simulate(design, np.random.default_rng(seed)) for seed in range(3)]
    got = over_targets(targets, metric, rng=np.random.default_rng(0))
    assert 0.0 <= got.low < got.value < got.high <= 1.0
