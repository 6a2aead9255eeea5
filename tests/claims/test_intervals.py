"""The intervals' promises: how often they hold the truth over repetitions of the whole design.

Nominal coverage is 95 %. The tolerance covers the method's own error, as documented in docs/evaluation.md;
the simulation's is added as two standard errors.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from privoxel.evaluation.combine import over_targets
from privoxel.evaluation.comparison import compare_attacks
from privoxel.evaluation.metrics import (
    auc,
    balanced_accuracy,
    paired_auc_difference,
    tpr_at_fpr,
)
from privoxel.evaluation.scored import Estimate, Evaluated
from tests.scores import Design, simulate

pytestmark = pytest.mark.slow

DESIGNS = {
    "15 + 15": {"members": 15, "non_members": 15},
    "30 + 90": {"members": 30, "non_members": 90},
    "100 + 100": {"members": 100, "non_members": 100},
    "five 68/32 repeats": {"members": 90, "non_members": 90, "repeats": 5, "fraction": 0.32},
    "five noisy repeats": {
        "members": 90,
        "non_members": 90,
        "repeats": 5,
        "fraction": 0.32,
        "repeat_noise": 0.5,
    },
    "several scans": {"members": 45, "non_members": 45, "most_scans": 4},
    "several scans, five repeats": {
        "members": 60,
        "non_members": 60,
        "repeats": 5,
        "fraction": 0.32,
        "most_scans": 3,
    },
}


def holds(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def assert_covers(hits: list[bool], tolerance: float) -> None:
    promised = 0.95 - tolerance
    noise = 2.0 * math.sqrt(promised * (1.0 - promised) / len(hits))
    assert np.mean(hits) >= promised - noise


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("shift", [0.0, 0.8, 2.0])
def test_the_auc_interval_covers_within_one_and_a_half_percent(name, shift):
    design, rng = Design(**DESIGNS[name], shift=shift), np.random.default_rng(17)
    assert_covers([holds(auc(simulate(design, rng)), design.auc) for _ in range(1000)], 0.015)


@pytest.mark.parametrize("name", DESIGNS)
def test_the_interval_of_an_auc_near_one_covers_within_four_percent(name):
    design, rng = Design(**DESIGNS[name], shift=3.2), np.random.default_rng(18)
    assert_covers([holds(auc(simulate(design, rng)), design.auc) for _ in range(1000)], 0.04)


@pytest.mark.parametrize("name", DESIGNS)
def test_guessing_is_called_a_leak_in_at_most_two_and_a_half_percent(name):
    design, rng = Design(**DESIGNS[name], shift=0.0), np.random.default_rng(19)
    alarms = [auc(simulate(design, rng)).low > 0.5 for _ in range(5000)]
    bonferroni = float(norm.isf(0.05 / len(DESIGNS)))
    assert np.mean(alarms) <= 0.025 + bonferroni * math.sqrt(0.025 * 0.975 / 5000)


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("shift", [0.0, 1.6, 3.2])
def test_the_balanced_accuracy_interval_covers_within_two_percent(name, shift):
    design, rng = Design(**DESIGNS[name], shift=shift), np.random.default_rng(20)
    hits = [
        holds(balanced_accuracy(simulate(design, rng), rng, draws=300), design.balanced_accuracy)
        for _ in range(500)
    ]
    assert_covers(hits, 0.02)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
@pytest.mark.parametrize(
    ("fpr", "settings"),
    [
        (0.1, {"members": 30, "non_members": 30}),
        (0.05, {"members": 100, "non_members": 100}),
        (0.01, {"members": 100, "non_members": 300}),
        (0.05, {"members": 300, "non_members": 300, "repeats": 5, "fraction": 0.32}),
        (0.05, {"members": 40, "non_members": 60, "most_scans": 4}),
    ],
)
def test_the_tpr_interval_covers_within_four_percent(fpr, settings, shift):
    design, rng = Design(**settings, shift=shift), np.random.default_rng(21)
    hits = [
        holds(tpr_at_fpr(simulate(design, rng), fpr, rng=rng, draws=300), design.tpr(fpr)) for _ in range(300)
    ]
    assert_covers(hits, 0.04)


@pytest.mark.parametrize("name", DESIGNS)
def test_the_paired_difference_covers_within_two_percent(name):
    design, rng = Design(**DESIGNS[name], shift=1.2), np.random.default_rng(22)
    noise = 0.8
    truth = design.auc - Design(shift=1.2, repeat_noise=math.hypot(design.repeat_noise, noise)).auc
    hits = []
    for _ in range(1000):
        first = simulate(design, rng)
        noisy = first.scores + noise * rng.normal(size=first.scores.shape)
        second = Evaluated(noisy, first.thresholds, first.members, first.participants)
        hits.append(holds(paired_auc_difference(first, second), truth))
    assert_covers(hits, 0.02)


def crossed_targets(count: int, kind: str, spread: float, rng: np.random.Generator) -> list[Evaluated]:
    """Return targets over 50 + 50 participants; ``kind`` says whether people and membership are shared."""
    people, per_class = 100, 50
    alike, same_members = rng.normal(size=people), rng.permutation(people) < per_class
    made = []
    for row in range(count):
        trait = rng.normal(size=people) if kind == "disjoint" else alike
        members = same_members if kind == "same members" else rng.permutation(people) < per_class
        leak = 1.0 + spread * rng.normal()
        scores = 0.7 * trait + math.sqrt(0.51) * rng.normal(size=people) + leak * members
        codes = np.arange(people) + (people * row if kind == "disjoint" else 0)
        made.append(Evaluated(scores[None], np.array([0.5]), members, codes))
    return made


@pytest.mark.parametrize("spread", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["disjoint", "same members", "redrawn members"])
@pytest.mark.parametrize("count", [4, 8])
def test_the_interval_over_targets_covers_at_least_ninety_three_percent(count, kind, spread, monkeypatch):
    monkeypatch.setattr("privoxel.evaluation.combine.draws_for", lambda _: 200)
    leaks = 1.0 + spread * np.random.default_rng(0).normal(size=200_000)
    truth = float(np.mean(norm.cdf(leaks / math.sqrt(2.0))))
    rng = np.random.default_rng(23)
    hits = [
        holds(over_targets(crossed_targets(count, kind, spread, rng), "auc", rng=rng), truth)
        for _ in range(500)
    ]
    assert_covers(hits, 0.02)


def compared_targets(
    count: int, kind: str, gain: float, rng: np.random.Generator
) -> tuple[list[Evaluated], list[Evaluated]]:
    """Return two attacks on targets whose trainings give the first one ``gain`` on average, SD 0.3."""
    second, first = crossed_targets(count, kind, 0.3, rng), []
    for target in second:
        own = gain + 0.3 * rng.normal()
        scores = target.scores + 0.5 * rng.normal(size=target.scores.shape) + own * target.members
        first.append(replace(target, scores=scores))
    return first, second


def truth_of(gain: float) -> float:
    """Return the mean difference of AUCs: leaks and gains vary, and the first attack is noisier."""
    normal = norm.ppf((np.arange(2000) + 0.5) / 2000)
    first, second = 1.0 + gain + math.hypot(0.3, 0.3) * normal, 1.0 + 0.3 * normal
    return float(np.mean(norm.cdf(first / math.sqrt(2.5))) - np.mean(norm.cdf(second / math.sqrt(2.0))))


@pytest.mark.parametrize("gain", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["disjoint", "same members", "redrawn members"])
def test_the_paired_difference_over_eight_targets_covers_within_two_percent(kind, gain):
    rng, truth = np.random.default_rng(25), truth_of(gain)
    hits = [
        holds(compare_attacks(*compared_targets(8, kind, gain, rng)).difference, truth) for _ in range(500)
    ]
    assert_covers(hits, 0.02)
    assert np.mean(hits) < 0.995
