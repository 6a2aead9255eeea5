"""The best of many attacks, corrected for the choice."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from privoxel.evaluation.intervals import auc_contributions
from privoxel.evaluation.metrics import auc
from privoxel.evaluation.scored import Evaluated
from privoxel.evaluation.selection import (
    _null_areas,
    _nulls_of,
    best_of_many,
    best_over_targets,
    held_out_best,
)
from tests.scores import Design, learned, one_repeat, simulate


def noise_and_one(shift: float, count: int = 6, size: int = 60) -> dict[str, Evaluated]:
    rng = np.random.default_rng(2)
    found = {f"noise{k}": one_repeat(rng.normal(size=size), rng.normal(size=size)) for k in range(count)}
    return found | {"works": one_repeat(rng.normal(size=size) + shift, rng.normal(size=size))}


def test_the_attack_that_works_is_chosen_with_a_small_p_value_and_a_wider_interval():
    attacks = noise_and_one(1.5)
    found, alone = best_of_many(attacks, np.random.default_rng(0)), auc(attacks["works"])
    assert (found.name, found.p_value, found.candidates) == ("works", 0.001, 7)
    assert found.auc.value == pytest.approx(alone.value)
    assert found.auc.low < alone.low
    assert found.auc.low > 0.5


def test_the_p_value_of_one_attack_is_that_of_all_exchanges_written_out():
    scores = np.array([3.0, 2.5, 0.3, 1.0, 0.2, -1.0, 0.1, -0.5])
    evaluated = one_repeat(scores[:4], scores[4:])

    def area(members: tuple[int, ...]) -> float:
        others = [k for k in range(8) if k not in members]
        return float(np.mean([scores[i] > scores[j] for i in members for j in others]))

    areas = [area(chosen) for chosen in itertools.combinations(range(8), 4)]
    expected = np.mean(np.array(areas) >= area((0, 1, 2, 3)) - 1e-9)
    found = best_of_many({"one": evaluated}, np.random.default_rng(0), draws=4000)
    assert found.p_value == pytest.approx(expected, abs=0.012)


def test_copies_of_an_attack_do_not_change_its_p_value():
    one = simulate(Design(shift=0.4), np.random.default_rng(4))
    alone = best_of_many({"a": one}, np.random.default_rng(1), draws=199)
    many = best_of_many({str(k): one for k in range(5)}, np.random.default_rng(1), draws=199)
    assert alone.p_value == many.p_value


def test_the_held_out_half_measures_the_attack_that_the_first_half_chose():
    found = held_out_best(noise_and_one(1.5), np.random.default_rng(0), draws=99)
    assert found.name == "works"
    assert found.p_value == 0.01
    assert "other half" in found.auc.method


def test_repeats_and_several_scans_are_allowed():
    design = Design(members=30, non_members=40, shift=1.2, repeats=3, fraction=0.6, most_scans=3)
    one = simulate(design, np.random.default_rng(5))
    found = best_of_many(
        {"a": one, "b": replace(one, scores=-one.scores)}, np.random.default_rng(0), draws=99
    )
    assert found.name == "a"
    assert 0.0 <= found.auc.low < found.auc.value < found.auc.high <= 1.0


def test_attacks_on_other_scans_are_refused():
    attacks = noise_and_one(1.0)
    moved = replace(attacks["works"], participants=attacks["works"].participants + 1)
    with pytest.raises(ValueError, match="same scans"):
        best_of_many(attacks | {"works": moved}, np.random.default_rng(0))
    with pytest.raises(ValueError, match="at least one"):
        best_of_many({}, np.random.default_rng(0))


def test_the_areas_under_exchange_are_those_of_the_plain_auc():
    """Ranks times exchanged labels, against the AUC of each exchange computed anew."""
    design = Design(members=9, non_members=12, shift=0.5, repeats=2, fraction=0.7, most_scans=2)
    one = simulate(design, np.random.default_rng(8))
    tied = replace(one, scores=one.scores.round(0))
    found = _null_areas([one, tied], np.random.default_rng(3), 25)
    rng = np.random.default_rng(3)
    codes = np.unique(one.participants, return_inverse=True)[1]
    member = np.array([one.members[codes == code][0] for code in range(codes.max() + 1)])
    counts = np.stack([np.bincount(codes, weights=row) for row in ~np.isnan(one.scores)], axis=1)
    strata = np.unique(counts, axis=0, return_inverse=True)[1].reshape(-1)
    for row in found:
        exchanged = member.copy()
        for stratum in np.unique(strata):
            inside = np.flatnonzero(strata == stratum)
            exchanged[inside] = member[rng.permutation(inside)]
        for attack, area in zip((one, tied), row, strict=True):
            assert area == pytest.approx(auc(replace(attack, members=exchanged[codes])).value)


def targets_of(count: int, shift: float) -> list[dict[str, Evaluated]]:
    rng = np.random.default_rng(6)
    found = []
    for _ in range(count):
        noise = {f"noise{k}": one_repeat(rng.normal(size=40), rng.normal(size=40)) for k in range(4)}
        found.append(noise | {"works": one_repeat(rng.normal(size=40) + shift, rng.normal(size=40))})
    return found


def test_over_targets_the_attack_that_works_in_all_of_them_is_chosen():
    targets = targets_of(6, 0.8)
    found = best_over_targets(targets, np.random.default_rng(0), draws=199)
    assert (found.name, found.candidates) == ("works", 5)
    assert found.p_value <= 0.01
    assert found.auc.value == pytest.approx(np.mean([auc(one["works"]).value for one in targets]))
    assert 0.5 < found.auc.low < found.auc.value
    assert (found.auc.level, "Bonferroni over 5" in found.auc.method) == (0.95, True)


def test_over_one_target_it_is_the_best_of_many():
    (target,) = targets_of(1, 1.0)
    one = best_over_targets([target], np.random.default_rng(0), draws=99)
    assert one == best_of_many(target, np.random.default_rng(0), draws=99)


def test_over_targets_nothing_is_found_where_nothing_works():
    p_values = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        targets = [
            {str(k): one_repeat(rng.normal(size=15), rng.normal(size=15)) for k in range(6)} for _ in range(3)
        ]
        p_values.append(best_over_targets(targets, rng, draws=99).p_value)
    assert np.mean(np.array(p_values) <= 0.05) <= 0.15
    assert 0.3 < np.mean(p_values) < 0.7


def test_targets_attacked_otherwise_are_refused():
    with pytest.raises(ValueError, match="same attacks"):
        best_over_targets([*targets_of(1, 0.0), {}], np.random.default_rng(0))


def test_among_settings_the_interval_holds_for_all_and_the_p_value_for_this_one():
    one, other = (
        {name: simulate(Design(shift=0.4), np.random.default_rng(ord(name) + k)) for name in "ab"}
        for k in (0, 5)
    )
    alone, copies, two = (
        best_over_targets([one], np.random.default_rng(1), others=[[rival] for rival in rivals])
        for rivals in ([], [one] * 9, [other])
    )
    assert alone.p_value == copies.p_value == two.p_value
    assert copies.auc.high - copies.auc.low == pytest.approx(alone.auc.high - alone.auc.low, rel=0.05)
    assert two.auc.high - two.auc.low > 1.03 * (alone.auc.high - alone.auc.low)
    assert "2 attacks of 10 settings" in copies.auc.method


def test_over_targets_an_attack_that_learns_is_judged_by_its_wider_spread():
    """Copies of one target have the p-value of that target's standardised AUC, times √3."""
    one = learned(np.random.default_rng(4), 50)
    targets = [{"learner": replace(one, participants=one.participants + 1000 * k)} for k in range(3)]
    parts, null = auc_contributions(one), _null_areas([one], np.random.default_rng(0), 2000)
    reached = (auc(one).value - 0.5) / parts.widening / null.std()
    expected = norm.sf(np.sqrt(3) * reached)
    found = best_over_targets(targets, np.random.default_rng(0), draws=999)
    assert parts.widening > 1.2
    assert found.p_value == pytest.approx(expected, abs=0.03)
    assert abs(norm.sf(np.sqrt(3) * reached * parts.widening) - expected) > 0.06


def test_trainings_of_one_design_exchange_the_same_memberships():
    """What their scores have in common is then no luck of each."""
    first = noise_and_one(0.0)
    members = np.roll(first["works"].members, 7)
    other = {name: replace(one, members=members) for name, one in first.items()}
    nulls = _nulls_of([first, other, first, other], np.random.default_rng(3), 20)
    np.testing.assert_array_equal(nulls[0], nulls[2])
    np.testing.assert_array_equal(nulls[1], nulls[3])
    assert not np.array_equal(nulls[0], nulls[1])
    np.testing.assert_array_equal(nulls[0], _null_areas(list(first.values()), np.random.default_rng(3), 20))
