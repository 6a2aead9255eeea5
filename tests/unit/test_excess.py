"""What an attack reaches beyond the covariates, named beforehand or chosen among many."""

from dataclasses import replace

import numpy as np
import pytest

from privoxel.evaluation.comparison import compare_attacks
from privoxel.evaluation.excess import excess_of_chosen, excess_over
from privoxel.evaluation.metrics import paired_auc_difference
from privoxel.evaluation.scored import Evaluated
from tests.scores import one_repeat

SIZE = 70


def world(rng: np.random.Generator, attacks: int, start: int = 0) -> tuple[dict[str, Evaluated], Evaluated]:
    """Return attacks and a control that all read one thing, in which members differ by 0.8 SD."""
    common = rng.normal(size=2 * SIZE) + 0.8 * (np.arange(2 * SIZE) < SIZE)

    def scored() -> Evaluated:
        score = common + rng.normal(size=2 * SIZE)
        one = one_repeat(score[:SIZE], score[SIZE:])
        return replace(one, participants=one.participants + start)

    return {f"attack{k}": scored() for k in range(attacks)}, scored()


def test_named_beforehand_it_is_the_paired_difference():
    attacks, control = world(np.random.default_rng(0), 1)
    assert excess_over([attacks["attack0"]], [control]) == paired_auc_difference(attacks["attack0"], control)


def test_among_many_the_interval_is_wider_and_among_copies_it_is_not():
    attacks, control = world(np.random.default_rng(1), 12)
    single = paired_auc_difference(attacks["attack3"], control)
    copies = {str(k): attacks["attack3"] for k in range(12)}
    many = excess_of_chosen("attack3", [attacks], [control], np.random.default_rng(0))
    same = excess_of_chosen("3", [copies], [control], np.random.default_rng(0))
    assert many.value == same.value == single.value
    assert many.high - many.low > 1.25 * (single.high - single.low)
    assert same.high - same.low == pytest.approx(single.high - single.low, rel=0.06)
    assert "simultaneous over 12 attacks" in many.method


def test_over_targets_each_attack_has_its_share_of_the_level():
    worlds = [world(np.random.default_rng(k), 4, start=1000 * k) for k in range(5)]
    targets, controls = [attacks for attacks, _ in worlds], [control for _, control in worlds]
    found = excess_of_chosen("attack2", targets, controls, np.random.default_rng(0))
    alone = compare_attacks([target["attack2"] for target in targets], controls, level=1 - 0.05 / 4)
    assert found[:3] == alone.difference[:3]
    assert (found.level, "Bonferroni over 4 attacks" in found.method) == (0.95, True)


def test_an_attack_that_is_the_control_exceeds_nothing():
    _, control = world(np.random.default_rng(2), 1)
    found = excess_of_chosen("same", [{"same": control}], [control], np.random.default_rng(0))
    assert found.value == 0.0
    assert found.low < 0.0 < found.high


def test_another_control_is_refused():
    attacks, _ = world(np.random.default_rng(3), 2)
    _, other = world(np.random.default_rng(3), 1, start=7)
    with pytest.raises(ValueError, match="needs the same scans"):
        excess_of_chosen("attack0", [attacks], [other], np.random.default_rng(0))
    with pytest.raises(ValueError, match="needs as many targets"):
        excess_of_chosen("attack0", [], [], np.random.default_rng(0))
