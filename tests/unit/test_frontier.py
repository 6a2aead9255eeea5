"""Utility against vulnerability: slow twins, and cases whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import mean_absolute_error, r2_score

from privoxel.evaluation.archive import TargetScores
from privoxel.evaluation.frontier import (
    Choice,
    Quantities,
    check_alike,
    draw_weights,
    estimate,
    most_vulnerable,
    non_dominated,
    quantities,
    recommend,
    stand,
    widening_of,
)
from privoxel.evaluation.metrics import auc, balanced_accuracy
from privoxel.evaluation.scored import Evaluated

MEMBERS, OTHERS = 17, 23


def target(seed: int, noise: float = 2.0, *, answers: bool = False) -> TargetScores:
    """Return a target with 17 members and 23 non-members, who are predicted with more noise."""
    rng = np.random.default_rng(seed)
    members = np.arange(MEMBERS + OTHERS) < MEMBERS
    age = np.random.default_rng(9).uniform(45, 80, len(members))
    prediction = age + np.where(members, 0.5, 1.0) * noise * rng.normal(size=len(age))
    scores = -np.abs(prediction - age)[None]
    evaluated = {
        name: Evaluated(
            scores + spread * rng.normal(size=scores.shape), np.array([-1.0]), members, np.arange(40)
        )
        for name, spread in (("sharp", 0.0), ("blunt", 3.0))
    }
    shown = 5 * np.round(prediction / 5) if answers else None
    return TargetScores(
        age, prediction, np.full(40, np.nan), members, np.arange(40), evaluated, {}, answers=shown
    )


def ones(choice: Choice) -> list[np.ndarray]:
    return [np.ones((1, len(one.age))) for one in choice.targets]


def test_quantities_are_those_of_independent_code_on_repeated_rows():
    choice = Choice("a", (target(1, answers=True),))
    (one,), (weights,) = choice.targets, draw_weights(choice.targets, 7, np.random.default_rng(0))
    found = quantities(choice, [weights], with_auc=True)
    for k, row in enumerate(weights):
        rows = np.repeat(np.arange(40), row.astype(int))
        out, inside = rows[~one.members[rows]], rows[one.members[rows]]
        assert found.mae[k] == pytest.approx(mean_absolute_error(one.age[out], one.answers[out]))
        assert found.r2[k] == pytest.approx(r2_score(one.age[out], one.answers[out]))
        members_mae = mean_absolute_error(one.age[inside], one.answers[inside])
        assert found.members_mae[k] == pytest.approx(members_mae)
        assert found.gap[k] == pytest.approx(found.mae[k] - members_mae)
        raw = [mean_absolute_error(one.age[part], one.prediction[part]) for part in (out, inside)]
        assert found.model_gap[k] == pytest.approx(raw[0] - raw[1])
    plain = quantities(choice, ones(choice), with_auc=True)
    for name, evaluated in one.evaluated.items():
        assert plain.auc[name][0] == pytest.approx(auc(evaluated).value)
        expected = balanced_accuracy(evaluated, np.random.default_rng(0)).value
        assert plain.accuracy[name][0] == pytest.approx(expected)
    best = max(balanced_accuracy(e, np.random.default_rng(0)).value for e in one.evaluated.values())
    assert most_vulnerable(plain, ["sharp", "blunt"], "balanced_accuracy")[0] == pytest.approx(best)


def test_several_targets_count_alike():
    first, second = target(1), target(2)
    both = Choice("both", (first, second))
    alone = [quantities(Choice("one", (one,)), ones(Choice("one", (one,)))).mae[0] for one in (first, second)]
    assert quantities(both, ones(both)).mae[0] == pytest.approx(np.mean(alone))


def test_a_person_is_drawn_as_often_in_all_targets():
    first = target(1)
    swapped = replace(first, members=~first.members)
    one, other = draw_weights([first, swapped], 5, np.random.default_rng(3))
    np.testing.assert_array_equal(one, other)


def test_the_frontier_is_that_of_all_pairs_written_out():
    rng = np.random.default_rng(4)
    for _ in range(50):
        costs = rng.integers(0, 5, (9, 2)).astype(float)
        expected = [
            not any(q[0] <= p[0] and q[1] <= p[1] and (q[0] < p[0] or q[1] < p[1]) for q in costs)
            for p in costs
        ]
        assert non_dominated(costs).tolist() == expected


def drawn_around(costs: np.ndarray, spread: float, *, shared: float = 0.0, draws: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(6)
    return costs + spread * rng.normal(size=(draws, *costs.shape)) + shared * rng.normal(size=(draws, 1, 2))


def test_settings_far_apart_are_told_apart_and_neighbours_are_not():
    costs = np.array([[3.0, 0.8], [3.3, 0.6], [3.31, 0.601], [5.0, 0.9]])
    found = stand(["none", "good", "twin", "bad"], costs, drawn_around(costs, 0.01), np.ones(4))
    by_name = {one.name: one for one in found}
    assert [one.is_on_front for one in found] == [True, True, False, False]
    assert by_name["bad"].dominated_by == ("none", "good", "twin")
    assert by_name["bad"].clearly
    assert by_name["twin"].dominated_by == ("good",)
    assert not by_name["twin"].clearly
    assert by_name["twin"].alike == ("good",)
    assert by_name["bad"].share == 0.0
    # 1 - P(better by 0.01 ± 0.014) · P(better by 0.001 ± 0.014)
    assert by_name["twin"].share == pytest.approx(1 - 0.760 * 0.528, abs=0.03)
    assert by_name["none"].share == 1.0


def test_what_moves_all_settings_together_does_not_blur_them():
    costs = np.array([[3.0, 0.8], [3.2, 0.7]])
    apart = stand(["a", "b"], costs, drawn_around(costs, 0.01, shared=1.0), np.ones(2))
    assert [one.alike for one in apart] == [(), ()]


def test_widened_intervals_tell_less_apart():
    costs = np.array([[3.0, 0.80], [3.0, 0.845]])
    drawn = drawn_around(costs, 0.01)
    assert stand(["a", "b"], costs, drawn, np.ones(2))[0].alike == ()
    assert stand(["a", "b"], costs, drawn, np.array([1.0, np.sqrt(2)]))[0].alike == ("b",)


def test_a_setting_that_is_truly_equal_is_called_worse_in_at_most_one_of_twenty():
    rng, wrong = np.random.default_rng(11), 0
    for _ in range(300):
        truth = np.tile([3.0, 0.6], (6, 1))
        costs = truth + 0.05 * rng.normal(size=truth.shape)
        drawn = costs + 0.05 * rng.normal(size=(400, *truth.shape))
        wrong += any(
            one.name == "p0" and (len(one.alike) < 5)
            for one in stand([f"p{k}" for k in range(6)], costs, drawn, np.ones(6))
        )
    assert wrong / 300 <= 0.08  # 5 % and two standard errors


def test_the_recommended_setting_is_the_least_vulnerable_that_loses_little():
    costs = np.array([[3.0, 0.8], [3.25, 0.6], [3.2, 0.6], [3.4, 0.5]])
    drawn = np.tile(costs[:, 0], (5, 1))
    found = recommend(["none", "b", "c", "d"], costs, drawn, reference="none", tolerated_loss=0.1)
    assert (found.name, found.candidates) == ("c", ("none", "b", "c"))
    assert found.loss.value == pytest.approx(0.2 / 3.0)


def test_an_interval_holds_its_value():
    assert estimate(5.0, np.array([1.0, 2.0, 3.0]))[:3] == pytest.approx((5.0, 1.05, 5.0))


def test_one_attacker_alone_needs_no_widening():
    one = target(1).evaluated["sharp"]
    assert widening_of(one, "auc") == widening_of(one, "balanced_accuracy") == 1.0


def test_other_people_or_attacks_are_refused():
    first = target(1)
    fewer = replace(first, evaluated={"sharp": first.evaluated["sharp"]})
    with pytest.raises(ValueError, match="same people and attacks for every setting, got others for b"):
        check_alike([Choice("a", (first,)), Choice("b", (fewer,))])


def test_one_setting_is_no_frontier():
    with pytest.raises(ValueError, match="two settings or more, got 1"):
        stand(["a"], np.ones((1, 2)), np.ones((3, 1, 2)), np.ones(1))


def test_the_best_of_many_is_too_high_where_nothing_leaks_and_not_where_one_attack_wins():
    rng, half = np.random.default_rng(12), 100

    def excess(shift: float) -> float:
        """Return how much the best of six attacks, the last with ``shift``, exceeds it in truth."""
        strength = shift * np.arange(6)[:, None] / 5
        called = rng.normal(size=(200, 6, 2 * half)) + strength * np.repeat([1, -1], half) > 0
        reached = (called[..., :half].mean(axis=-1) + (~called[..., half:]).mean(axis=-1)) / 2
        nothing = np.zeros(200)
        found = Quantities(*[nothing] * 5, {str(k): reached[:, k] for k in range(6)}, {})
        best = most_vulnerable(found, [str(k) for k in range(6)], "balanced_accuracy")
        return float(best.mean() - stats.norm.cdf(shift))

    assert excess(0.0) > 0.03
    assert abs(excess(1.5)) < 0.006
