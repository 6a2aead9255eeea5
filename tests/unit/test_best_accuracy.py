"""The most accurate of many attacks, corrected for the choice."""

import numpy as np
import pytest

from privoxel.evaluation.best_accuracy import accuracy_contributions, most_accurate
from privoxel.evaluation.metrics import balanced_accuracy
from privoxel.evaluation.scored import Evaluated
from tests.scores import Design, one_repeat, simulate


def noise(count: int, size: int, rng: np.random.Generator) -> dict[str, Evaluated]:
    return {f"noise{k}": one_repeat(rng.normal(size=size), rng.normal(size=size)) for k in range(count)}


def test_the_attack_that_works_is_chosen_with_an_interval_wider_than_its_own():
    rng = np.random.default_rng(2)
    works = one_repeat(rng.normal(size=80) + 0.8, rng.normal(size=80) - 0.8)
    found = most_accurate([noise(6, 80, rng) | {"works": works}], rng)
    alone = balanced_accuracy(works, np.random.default_rng(0))
    assert (found.name, found.candidates) == ("works", 7)
    assert found.accuracy.value == pytest.approx(alone.value)
    assert found.accuracy.low < alone.low
    assert found.accuracy.high > alone.high


def test_contributions_have_the_binomial_standard_error_of_two_rates():
    evaluated = one_repeat([1.0] * 30 + [-1.0] * 11, [-1.0] * 20 + [1.0] * 5)
    tpr, tnr = 30 / 41, 20 / 25
    expected = np.sqrt(tpr * (1 - tpr) / 40 + tnr * (1 - tnr) / 24) / 2
    assert np.sqrt((accuracy_contributions(evaluated) ** 2).sum()) == pytest.approx(expected)


def test_copies_of_an_attack_hardly_widen_its_interval():
    one = simulate(Design(members=120, non_members=150, shift=0.5), np.random.default_rng(4))
    many = most_accurate([{str(k): one for k in range(8)}], np.random.default_rng(1)).accuracy
    alone = balanced_accuracy(one, np.random.default_rng(1))
    assert many.high - many.low == pytest.approx(alone.high - alone.low, rel=0.12)


def test_the_best_of_useless_attacks_is_held_to_one_half_as_often_as_said():
    rng, missed = np.random.default_rng(8), 0
    for _ in range(200):
        accuracy = most_accurate([noise(10, 50, rng)], rng, draws=199).accuracy
        missed += not accuracy.low <= 0.5 <= accuracy.high
    assert missed / 200 <= 0.08  # 5 % and two standard errors


def test_over_several_targets_the_interval_is_bonferronis():
    design = Design(members=60, non_members=60, shift=1.0)
    targets = [
        {name: simulate(design, np.random.default_rng(10 * k + ord(name))) for name in "ab"} for k in range(3)
    ]
    found = most_accurate(targets, np.random.default_rng(0))
    assert found.accuracy.method.startswith("Bonferroni over 2 attacks: 3 targets")
    assert found.accuracy.low < found.accuracy.value < found.accuracy.high


def test_targets_must_have_been_attacked_alike():
    one = one_repeat([1.0, 2.0], [0.0, 0.5])
    with pytest.raises(ValueError, match="same attacks, got 2 targets"):
        most_accurate([{"a": one}, {"b": one}], np.random.default_rng(0))
