"""The most accurate of many attacks, corrected for the choice."""

import numpy as np
import pytest
from scipy import stats

from privoxel.evaluation import best_accuracy
from privoxel.evaluation.best_accuracy import MostAccurate, accuracy_contributions, most_accurate
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
        accuracy = most_accurate([noise(10, 50, rng)], rng).accuracy
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


def width(found: MostAccurate) -> float:
    return found.accuracy.high - found.accuracy.low


def test_settings_that_are_copies_of_the_chosen_one_hardly_widen_its_interval():
    design = Design(members=120, non_members=150, shift=0.5)
    one = [{str(k): simulate(design, np.random.default_rng(k)) for k in range(3)}]
    alone, many = (most_accurate(one, np.random.default_rng(1), others=others) for others in ([], [one] * 19))
    assert many.accuracy.value == alone.accuracy.value
    assert width(many) == pytest.approx(width(alone), rel=0.05)
    assert "3 attacks of 20 settings" in many.accuracy.method


def test_among_settings_of_their_own_the_interval_is_that_of_the_largest_deviation():
    design = Design(members=200, non_members=200)
    settings = [[{"a": simulate(design, np.random.default_rng(k))}] for k in range(20)]
    found = most_accurate(settings[0], np.random.default_rng(1), others=settings[1:]).accuracy
    error = np.sqrt((accuracy_contributions(settings[0][0]["a"]) ** 2).sum())
    # All twenty within q standard errors with 95 %: each with 0.95 ^ (1 / 20), Student's t over 199.
    expected = stats.t.ppf(0.5 + 0.95 ** (1 / 20) / 2, 199)
    assert (found.high - found.value) / error == pytest.approx(expected, rel=0.06)


def test_over_several_targets_settings_count_as_attacks_do():
    design = Design(members=60, non_members=60, shift=1.0)
    one, other = (
        [{name: simulate(design, np.random.default_rng(9 * k + ord(name))) for name in names} for k in (1, 2)]
        for names in ("ab", "cd")
    )
    found = most_accurate(one, np.random.default_rng(0), others=[other])
    assert "Bonferroni over 2 attacks of 2 settings: 2 targets" in found.accuracy.method
    assert width(found) > width(most_accurate(one, np.random.default_rng(0)))


def test_settings_of_other_people_are_refused():
    one, other = one_repeat([1.0, 2.0], [0.0, 0.5]), one_repeat([1.0, 2.0], [0.0, 0.5, 0.7])
    with pytest.raises(ValueError, match="same people in every setting, got others"):
        most_accurate([{"a": one}], np.random.default_rng(0), others=[[{"a": other}]])


def test_attackers_who_judge_each_others_teachers_widen_the_joint_interval_as_well(monkeypatch):
    one, other = ([{"a": simulate(Design(), np.random.default_rng(k))}] for k in (1, 2))
    plain = most_accurate(one, np.random.default_rng(0), others=[other])
    monkeypatch.setattr(best_accuracy, "widening_of_calls", lambda *_: 1.4)
    widened = most_accurate(one, np.random.default_rng(0), others=[other])
    assert width(widened) == pytest.approx(1.4 * width(plain), rel=0.01)
