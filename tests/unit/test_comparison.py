"""Two attacks on the same participants: pairing, findings and variance components."""

from dataclasses import replace

import numpy as np
import pytest

from privoxel.evaluation.comparison import compare_attacks, components_over_targets
from privoxel.evaluation.metrics import auc, paired_auc_difference
from privoxel.evaluation.scored import Evaluated
from tests.scores import one_repeat


def pair(
    rng: np.random.Generator, gain: float, *, size: int = 80, start: int = 0
) -> tuple[Evaluated, Evaluated]:
    """Return a better and a worse attack whose scores share most of their noise."""
    is_member = np.arange(2 * size) < size
    common = rng.normal(size=2 * size)
    scored = []
    for shift in (0.6 + gain, 0.6):
        score = common + 0.3 * rng.normal(size=2 * size) + shift * is_member
        one = one_repeat(score[:size], score[size:])
        scored.append(replace(one, participants=one.participants + start))
    return scored[0], scored[1]


def several(rng: np.random.Generator, gains: list[float], step: int = 1000):
    pairs = [pair(rng, gain, start=step * row) for row, gain in enumerate(gains)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def test_one_target_gives_its_paired_difference():
    a, b = pair(np.random.default_rng(0), 0.3)
    found = compare_attacks([a], [b])
    assert found.difference == paired_auc_difference(a, b)
    assert found.components is None


def test_the_difference_is_the_mean_within_targets_and_changes_its_sign_when_swapped():
    first, second = several(np.random.default_rng(1), [0.4] * 5)
    found, swapped = compare_attacks(first, second), compare_attacks(second, first)
    expected = np.mean([auc(a).value - auc(b).value for a, b in zip(first, second, strict=True)])
    assert found.difference.value == pytest.approx(expected)
    assert swapped.difference[:3] == pytest.approx((-expected, -found.difference.high, -found.difference.low))


@pytest.mark.parametrize(
    ("gain", "margin", "finding"),
    [(0.5, 0.01, "superior"), (0.0, 0.2, "non-inferior"), (-0.6, 0.01, "inferior"), (0.0, 0.0, "not shown")],
)
def test_the_interval_decides_the_finding(gain, margin, finding):
    first, second = several(np.random.default_rng(3), [gain] * 8)
    assert compare_attacks(first, second, margin=margin).finding == finding


def test_an_attack_is_not_superior_to_itself():
    first, _ = several(np.random.default_rng(4), [0.3] * 4)
    found = compare_attacks(first, first)
    assert found.difference.value == 0.0
    assert found.difference.low < 0.0 < found.difference.high


def test_the_same_participants_in_every_target_are_not_counted_as_new_ones():
    a, b = pair(np.random.default_rng(5), 0.3)
    one = paired_auc_difference(a, b)
    many = compare_attacks([a] * 6, [b] * 6).difference
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=0.05)


def test_the_components_find_trainings_and_designs_apart():
    rng = np.random.default_rng(6)
    designs, gains = [], []
    for design in range(60):
        centre = rng.normal(0.0, 0.5)
        designs += [design] * 3
        gains += [centre] * 3
    wide = compare_attacks(*several(rng, gains), designs=designs).components
    assert wide.designs > 4.0 * wide.trainings
    noisy = list(rng.normal(0.0, 0.5, len(gains)))
    narrow = compare_attacks(*several(rng, noisy), designs=designs).components
    assert narrow.trainings > 4.0 * narrow.designs


def test_without_repeated_designs_there_is_no_component_of_training():
    first, second = several(np.random.default_rng(7), [0.3] * 4)
    assert compare_attacks(first, second).components.trainings is None


def test_targets_that_do_not_pair_are_refused():
    first, second = several(np.random.default_rng(8), [0.3] * 2)
    with pytest.raises(ValueError, match="as many targets"):
        compare_attacks(first, second[:1])
    with pytest.raises(ValueError, match="same scans"):
        compare_attacks(first, second[::-1])


def trained_again(rng: np.random.Generator, *, size: int = 600) -> list[Evaluated]:
    """Return eight targets of four designs, each trained twice: a training moves the leak."""
    found = []
    for row in range(8):
        leak = 1.0 + 0.5 * rng.normal()
        score = rng.normal(size=2 * size) + leak * (np.arange(2 * size) < size)
        one = one_repeat(score[:size], score[size:])
        found.append(replace(one, participants=one.participants + 5000 * (row // 2)))
    return found


def test_what_trainings_of_one_design_differ_by_is_told_from_participants_and_designs():
    found = [
        components_over_targets(trained_again(np.random.default_rng(seed)), designs=[0, 0, 1, 1, 2, 2, 3, 3])
        for seed in range(12)
    ]
    trainings = np.mean([one.trainings for one in found])
    slope = np.exp(-0.25) / np.sqrt(4 * np.pi)  # of the AUC in the leak, at a leak of one
    assert trainings == pytest.approx((0.5 * slope) ** 2, rel=0.35)
    assert np.mean([one.participants for one in found]) < 0.05 * trainings
    assert np.mean([one.beyond_participants for one in found]) > 0.9


def test_one_target_has_no_components_and_designs_trained_once_no_trainings():
    targets = trained_again(np.random.default_rng(0), size=20)
    assert components_over_targets(targets[:1]) is None
    assert components_over_targets(targets).trainings is None
