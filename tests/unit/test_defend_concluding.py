"""What a frontier concludes from finished settings: fabricated scores of 60 + 60 people, no training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from privoxel.config import parse_config
from privoxel.evaluation.archive import TargetScores
from privoxel.evaluation.frontier import Choice
from privoxel.evaluation.scored import Evaluated
from privoxel.recipes.defending.comparing import Compared, best_accuracy, compare_settings
from privoxel.recipes.defending.concluding import fronts_of, lines_of, part_lines_of, sharing_of
from privoxel.recipes.defending.reading import Finished
from privoxel.recipes.defending.settings import FrontierConfig, Point
from privoxel.seeding import Streams

EACH = 60
ATTACKS = ("abs-error", "tube", "gradient-norm")


def finished(name: str, *, leak: float = 0.5, seed: int = 0, **sections: Any) -> Finished:
    """Return a setting whose members' errors are smaller by ``leak``, and whose scores are of ``seed``."""
    rng = np.random.default_rng(seed)
    members = np.arange(2 * EACH) < EACH
    age = np.random.default_rng(99).uniform(45, 80, 2 * EACH)
    error = 4.0 * rng.normal(size=2 * EACH) * np.where(members, 1.0 - leak, 1.0)
    evaluated = {
        attack: Evaluated(
            (2.0 * leak * members + rng.normal(size=2 * EACH))[None],
            np.array([leak]),
            members,
            np.arange(2 * EACH),
        )
        for attack in ATTACKS
    }
    nothing = np.full(2 * EACH, np.nan)
    target = TargetScores(age, age + error, nothing, members, np.arange(2 * EACH), evaluated, {})
    config = parse_config({"attacks": {"primary": "abs-error"}, **sections}, where=name)
    point = Point(name, "none" if name == "undefended" else "some", name, config, {})
    return Finished(point, None, Choice(name, (target,)), 1.0)  # type: ignore[arg-type] # only points read it


def compared(settings: Sequence[Finished], **frontier: Any) -> Compared:
    return compare_settings(settings, FrontierConfig(draws=200, **frontier), Streams(1))


def recommended(settings: Sequence[Finished], **frontier: Any) -> Mapping[str, Any]:
    fronts = fronts_of(compared(settings, **frontier), "undefended")
    return {front.adversary: front.recommendation for front in fronts}


@pytest.mark.parametrize("metric", ["balanced_accuracy", "auc"])
def test_candidates_that_are_near_copies_hardly_widen_the_recommended_ones_interval(metric):
    copies = [finished("undefended"), *(finished(f"copy {k}") for k in range(9))]
    few, many = (recommended(copies[:size], metric=metric)["black-box"].vulnerability for size in (2, 10))
    assert many.high - many.low == pytest.approx(few.high - few.low, rel=0.05)
    assert "2 attacks of 10 settings" in many.method


def test_candidates_of_their_own_widen_it_but_not_the_table():
    settings = [finished("undefended"), *(finished(f"other {k}", seed=k) for k in range(1, 10))]
    found = recommended(settings, tolerated_loss=1.0)["black-box"]
    chosen = next(one for one in settings if one.point.name == found.name)
    table = best_accuracy(chosen, ATTACKS[:2], compared(settings)).accuracy
    assert found.candidates == 10
    assert found.vulnerability.value == pytest.approx(table.value)
    assert found.vulnerability.high - found.vulnerability.low > 1.1 * (table.high - table.low)


def spread_out() -> list[Finished]:
    """Return six settings of which the first three share a training."""
    first = [finished("undefended", leak=0.6, training={"epochs": 9})]
    first += [finished(f"{k} epochs", leak=k / 15, seed=k, training={"epochs": k}) for k in (3, 6)]
    own = [
        finished(f"decay {k}", leak=leak, seed=10 + k, training={"weight_decay": 0.1 * k})
        for k, leak in enumerate((0.1, 0.3, 0.5), start=1)
    ]
    return [*first, *own]


def test_the_line_over_distinct_trainings_has_the_first_setting_of_each():
    every = compared(spread_out())
    line, _ = part_lines_of(every)
    assert (line.over, line.attack, line.models) == ("distinct trainings", "abs-error", 4)
    without = compared([one for one in spread_out() if "epochs" not in one.point.name])
    assert line.slope.value == pytest.approx(lines_of(without)[0].slope.value)
    assert [line.models for line in lines_of(every)] == [6, 6, 6]
    assert sharing_of(every) == [["undefended", "3 epochs", "6 epochs"]]


def test_where_no_training_is_shared_there_is_no_line_over_distinct_ones():
    own = compared([finished("undefended"), *spread_out()[3:]])
    assert "distinct trainings" not in {line.over for line in part_lines_of(own)}
    assert sharing_of(own) == []


def test_a_line_over_the_gaps_of_the_published_models_needs_three_settings_within_and_one_beyond():
    every = compared(spread_out())
    within = np.flatnonzero(every.column("gap") <= 1.88).tolist()
    assert 3 <= len(within) < 6
    line = part_lines_of(every)[-1]
    assert (line.over, line.models) == ("settings with gaps up to 1.88 years", len(within))
    assert line.slope == lines_of(every.only(within))[0].slope
    for places in (within, [k for k in range(6) if k not in within]):
        overs = {line.over for line in part_lines_of(every.only(places))}
        assert "settings with gaps up to 1.88 years" not in overs


def test_rules_for_answers_are_no_choice_against_who_holds_the_weights():
    rounded = finished("rounded", leak=0.0, seed=3, defence={"release": {"round_years": 5.0}})
    fronts = fronts_of(
        compared([finished("undefended"), finished("decayed", leak=0.3), rounded], tolerated_loss=1.0),
        "undefended",
    )
    black, white = fronts
    assert black.recommendation.name == "rounded"  # nothing leaks through its scores
    assert (black.left_out, white.left_out) == ([], ["rounded"])
    assert white.recommendation.name == "decayed"
    assert white.recommendation.candidates == 2
    assert {one.name for one in white.standings} == {"undefended", "decayed"}


def test_where_all_settings_change_the_answers_alone_there_is_one_frontier():
    release = {"release": {"noise_years": 1.0}}
    both = [finished("undefended", defence=release), finished("other", seed=2, defence=release)]
    assert [front.adversary for front in fronts_of(compared(both), "undefended")] == ["black-box"]


def test_a_loss_that_may_exceed_what_is_tolerated_is_said():
    settings = [finished("undefended", leak=0.6), finished("other", leak=0.1, seed=5)]
    (loss,) = {one.loss.high for one in recommended(settings, tolerated_loss=1.0).values()}
    assert loss > 0.01
    for tolerated, may_exceed in ((loss - 0.005, True), (loss + 0.005, False)):
        found = recommended(settings, tolerated_loss=tolerated)["black-box"]
        assert (found.name, found.loss_may_exceed) == ("other", may_exceed)
