from dataclasses import replace

import numpy as np
import pytest

from privoxel.cohort.splits import Design
from privoxel.config import parse_config
from privoxel.errors import ConfigError
from privoxel.privacy_config import PrivacyConfig
from privoxel.recipes.budget import PLANNED, Numbers, fit_budget, numbers_in, parse_budget, with_numbers
from privoxel.recipes.pace import Pace
from privoxel.recipes.plan import (
    IMAGE_SECONDS,
    PER_SCAN_STEP,
    Crews,
    chosen_attacks,
    needs_of,
    plan_targets,
)
from privoxel.store import open_run
from privoxel.training.runtime import Runtime
from tests.conftest import make_cohort

COHORT = make_cohort(34)
PEOPLE = COHORT.covariates.participants
DESIGN = Design(PEOPLE[:11], PEOPLE[11:23], others=PEOPLE[23:])
PACE = {"cnn3d": Pace(1.0, 2.0, 1000, 50, 14)}
TWO = Runtime(threads=2)


def config(names=("all",), primary="abs-error", **shadows):
    return parse_config(
        {
            "training": {"epochs": 10},
            "split": {"members": 11, "non_members": 12, "others": 11},
            "models": [{"width": 0.125, "head": "scaled"}],
            "attacks": {"names": list(names), "primary": primary},
            "shadows": shadows,
        }
    )


def fit(settings, budget, monkeypatch=None):
    monkeypatch.setattr("privoxel.recipes.budget.measure_paces", lambda *_: PACE)
    return fit_budget(settings, [DESIGN], COHORT, TWO, Crews(), budget=budget)


def seconds_of(settings, shadows, students=0):
    """Return what a run of ``settings`` with so many models takes."""
    tried = with_numbers(settings, Numbers(shadows, students))
    return needs_of(plan_targets(tried, [DESIGN]), tried, COHORT, PACE, TWO).seconds


def test_needs_count_trainings_core_seconds_and_waiting():
    settings = config(count=4)
    plans = plan_targets(settings, [DESIGN])
    needs = needs_of(plans, settings, COHORT, PACE, TWO, Crews(trainers=3))
    targets = 10 * 11 * 1.0 * 2  # the target and its null target, 11 scans each, 10 epochs
    shadows = 2.0 * 10 * (4 * 11.5)
    assert needs.trainings == 6
    assert needs.training.core_seconds == pytest.approx(2 * targets + shadows)
    assert needs.training.seconds == pytest.approx(targets + shadows / 4 * 2)  # three at a time: two rounds
    assert needs.each == {"cnn3d-1": pytest.approx(shadows / 4)}
    without = needs_of(plans, config(), COHORT, PACE, TWO)
    assert without.trainings == 2
    assert without.training.seconds == targets
    assert needs.disk > without.disk + 4 * 4 * 1000
    assert needs.cache == len(COHORT) * np.prod(COHORT.grid.shape) * 2


def test_reading_is_that_of_signals_and_of_the_predictions_of_shadows():
    pace, settings = {"cnn3d": PACE["cnn3d"]._replace(signal_seconds=4.0)}, config(("rmia",), "rmia", count=2)
    needs = needs_of(plan_targets(settings, [DESIGN]), settings, COHORT, pace, TWO, Crews(trainers=2))
    signals, judged = 4.0 * 23 * 2, 23 * 1.0 * 2 / 3  # of target and null target; of both shadows
    assert needs.reading.seconds == pytest.approx(signals + judged + 23 * 2.0 / 3)  # and by the shadows' jobs
    assert needs.reading.core_seconds == pytest.approx(2 * (signals + judged) + 2 * 23 * 2.0 / 3)


def reading_of(*names, epochs=6, **training):
    """Return the seconds of reading a scan for ``names``, in a training that keeps every epoch."""
    settings = config(("abs-error", *names)).to_dict()
    settings["training"] |= {"epochs": epochs, "snapshot_every": 1, **training}
    pace, parsed = {"cnn3d": PACE["cnn3d"]._replace(signal_seconds=4.0)}, parse_config(settings)
    plans = plan_targets(parsed, [replace(DESIGN, others=())])
    return needs_of(plans, parsed, COHORT, pace, TWO).reading.seconds / 23


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), 4.0),
        (("stability",), 4.0 + 6 * 1.0 / 3),
        (("stability", "stability-rotation"), 4.0 + 2 * 6 * 1.0 / 3),
        (("trajectory",), 4.0 + 6 * 1.0 / 3),
        (("movement-alignment",), 4.0 + 5 * 4.0),
        (("movement-alignment", "trajectory"), 4.0 + 5 * 4.0 + 6 * 1.0 / 3),
    ],
)
def test_reading_counts_passes_over_copies_and_over_the_course_of_the_training(names, expected):
    assert reading_of(*names) == pytest.approx(expected)


def test_validation_scans_are_predicted_after_every_epoch():
    def training(validation):
        design = replace(DESIGN, others=(), validation=validation)
        settings = config()
        return needs_of(plan_targets(settings, [design]), settings, COHORT, PACE, TWO).training.seconds

    assert training(PEOPLE[23:32]) == pytest.approx(training(()) + 10 * 9 * 1.0 / 3)


def test_models_that_defences_need_are_among_the_models_to_train():
    def trainings(**defence):
        settings = config(("abs-error", "rmia", "distilled-rmia"), count=4, distilled=3)
        parsed = parse_config({**settings.to_dict(), "defence": defence})
        return needs_of(plan_targets(parsed, [DESIGN]), parsed, COHORT, PACE, TWO).trainings

    assert trainings() == 2 + 4 + 3
    assert trainings(pretraining={"epochs": 2}) == 2 + 4 + 3 + 1
    assert trainings(distillation={}) == 2 * (2 + 4) + 3


def test_attacks_count_by_number_draws_and_what_they_train():
    def attacking(*names, image=0, attackers=1):
        pace = {"cnn3d": PACE["cnn3d"]._replace(image=image)}
        settings = config(names, names[0])
        crews = Crews(attackers=attackers)
        return needs_of(plan_targets(settings, [DESIGN]), settings, COHORT, pace, TWO, crews).attacking

    one, two = attacking("abs-error").seconds, attacking("abs-error", "tube").seconds
    assert two == pytest.approx(one * 3 / 2)  # the null target meets the primary attack alone
    assert attacking("abs-error", attackers=2) == (one / 2, one)
    assert attacking("abs-error", "gradient-conv6", image=1024).seconds > two + 4 * 8
    assert attacking("abs-error", "gradient-conv1", image=1024).seconds == two


def test_privacy_and_defences_cost_what_a_frontier_says_they_do():
    plain = config(count=4)
    private = plain.model_copy(update={"privacy": PrivacyConfig(noise_multiplier=1.0)})
    seconds = [
        needs_of(plan_targets(c, [DESIGN]), c, COHORT, PACE, TWO).training.seconds for c in (plain, private)
    ]
    assert seconds[1] == pytest.approx(PER_SCAN_STEP * seconds[0])


def test_shadows_that_no_attack_uses_cost_nothing():
    settings = config(names=("abs-error",), count=4)
    assert needs_of(plan_targets(settings, [DESIGN]), settings, COHORT, PACE, TWO).trainings == 2


@pytest.mark.parametrize(("shadows", "expected"), [(8, 8), (4.5, 4), (2.1, 2), (1.0, 1), (0.5, 0)])
def test_the_most_references_of_the_ladder_that_fit_are_taken(shadows, expected, monkeypatch):
    most = seconds_of(config(), expected) + (shadows - expected) * 2.0 * 10 * 11
    fitted = fit(config(), most / PLANNED + 0.1, monkeypatch=monkeypatch)
    assert fitted.config.shadows.count == expected
    assert fitted.config.shadows.design == ("population" if expected else "balanced")
    assert fitted.needs.seconds <= most + 0.1
    assert fitted.needs.trainings == 2 + expected
    assert f"{expected} shadow models" in str(fitted.numbers)


def test_no_more_shadows_are_trained_than_asked_for(monkeypatch):
    assert fit(config(count=3), 1e9, monkeypatch=monkeypatch).config == config(count=3)
    assert fit(config(names=("abs-error",)), 1e9, monkeypatch=monkeypatch).config.shadows.count == 0


def test_named_attacks_keep_the_fewest_shadows_they_work_with(monkeypatch):
    asked = config(names=("abs-error", "lira-online"), primary="lira-online", count=16)
    fewest, more = (seconds_of(asked, count) / PLANNED for count in (4, 8))
    assert fit(asked, more - 1, monkeypatch=monkeypatch).config.shadows.count == 4
    with pytest.raises(ConfigError, match=r"the fewest shadows that the named attacks work with"):
        fit(asked, fewest - 1, monkeypatch=monkeypatch)


def test_attacks_that_no_shadow_is_left_for_are_left_out(monkeypatch):
    asked = config(names=("abs-error", "rmia", "informia-student"), count=2)
    fitted = fit(asked, 300.0, monkeypatch=monkeypatch)
    assert fitted.config.shadows.count == 0
    assert fitted.config.attacks.names == ("abs-error",)


def test_a_budget_that_does_not_hold_the_targets_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"--budget 60 s needs to hold the training of the targets"):
        fit(config(), 60.0, monkeypatch=monkeypatch)


ENCODERS = {"gradient-conv6", "combined", "shadow-combined"}
"""The attacks of "all" that read a gradient as an image, and cost more than all others."""
IMAGE_COST = 4 * IMAGE_SECONDS * 10_240


def fit_with_images(settings, planned, monkeypatch):
    pace = {"cnn3d": PACE["cnn3d"]._replace(image=10_240)}
    monkeypatch.setattr("privoxel.recipes.budget.measure_paces", lambda *_: pace)
    budget = (planned + 1.0) / PLANNED
    return fit_budget(settings, [DESIGN], COHORT, TWO, Crews(), budget=budget)


def test_the_dearest_attacks_that_nobody_named_are_left_out_before_a_run_is_refused(monkeypatch, tmp_path):
    settings = config()
    fitted = fit_with_images(settings, seconds_of(settings, 0), monkeypatch)
    assert set(fitted.numbers.without) == ENCODERS
    left = set(chosen_attacks(fitted.config))
    assert left == set(chosen_attacks(settings)) - ENCODERS
    assert fitted.numbers.in_words.startswith("0 shadow models a target, without ")
    open_run(tmp_path / "run", {"config": fitted.config.to_dict()}, resume=False, facts={})
    assert with_numbers(settings, numbers_in(tmp_path / "run")) == fitted.config


def test_references_fill_the_time_that_attacks_left_out_have_freed(monkeypatch):
    settings = config(count=2, design="population")
    fitted = fit_with_images(settings, seconds_of(settings, 1), monkeypatch)
    assert (fitted.config.shadows.count, set(fitted.numbers.without)) == (1, ENCODERS)


def test_an_attack_that_is_named_is_not_left_out_however_dear(monkeypatch):
    named = config(("all", "gradient-conv6"))
    fitted = fit_with_images(named, seconds_of(named, 0) + IMAGE_COST, monkeypatch)
    assert set(fitted.numbers.without) == ENCODERS - {"gradient-conv6"}
    alone = config(("abs-error", "gradient-conv6"))
    with pytest.raises(ConfigError, match=r"work with, and those attacks, got .* or name fewer attacks"):
        fit_with_images(alone, seconds_of(alone, 0), monkeypatch)


@pytest.mark.parametrize(
    ("without", "message"),
    [(["abs-error"], "none called abs-error"), (["lirra"], r"needs names among .*, got lirra")],
)
def test_all_stands_for_every_attack_but_those_it_is_without(without, message):
    settings = config().to_dict()
    settings["attacks"]["without"] = ["tube"]
    assert set(chosen_attacks(config())) - set(chosen_attacks(parse_config(settings))) == {"tube"}
    settings["attacks"]["without"] = without
    with pytest.raises(ConfigError, match=message):
        chosen_attacks(parse_config(settings))


def test_students_cost_a_training_for_each_target_that_reads_them():
    settings = config(names=("abs-error", "distilled-rmia"), distilled=3)
    plans = plan_targets(settings, [DESIGN])
    needs = needs_of(plans, settings, COHORT, PACE, TWO, Crews(trainers=2))
    targets, students = 2 * 10 * 11 * 1.0, 2.0 * 10 * 3 * 11
    assert needs.trainings == 2 + 3
    assert needs.training.core_seconds == pytest.approx(2 * targets + students)
    assert needs.training.seconds == pytest.approx(targets + students / 3 * 2)
    both = config(names=("distilled-rmia",), primary="distilled-rmia", distilled=3)
    assert needs_of(plan_targets(both, [DESIGN]), both, COHORT, PACE, TWO).trainings == 2 + 2 * 3


def test_shadows_that_start_from_a_target_are_trained_for_each():
    names = ("rmia",)
    for start, expected in ((True, 2 + 4), ("target", 2 + 2 * 4)):
        settings = config(names, primary="rmia", count=4, design="population", warm_start=start, epochs=5)
        needs = needs_of(plan_targets(settings, [DESIGN]), settings, COHORT, PACE, TWO)
        assert needs.trainings == expected
    shadows = 2.0 * 11 * 5 * 8
    assert needs.training.core_seconds == pytest.approx(2 * 2 * 10 * 11 + shadows)


@pytest.mark.parametrize(
    ("models", "expected"),
    [(6, (4, 2)), (5.5, (4, 1)), (3.5, (2, 1)), (2.5, (2, 0)), (1.5, (1, 0)), (0.5, (0, 0))],
)
def test_the_most_models_of_both_kinds_that_fit_are_taken(models, expected, monkeypatch):
    asked = config(count=4, design="population", distilled=2)
    most = seconds_of(asked, *expected) + (models - sum(expected)) * 2.0 * 10 * 11
    fitted = fit(asked, most / PLANNED + 0.1, monkeypatch=monkeypatch)
    assert (fitted.config.shadows.count, fitted.config.shadows.distilled) == expected
    assert fitted.needs.trainings == 2 + sum(expected)


def test_no_shadows_are_added_to_a_run_that_asks_for_students_alone(monkeypatch):
    fitted = fit(config(distilled=2), 1e9, monkeypatch=monkeypatch)
    assert (fitted.config.shadows.count, fitted.config.shadows.distilled) == (0, 2)
    assert str(fitted.numbers) == "0 shadow models and 2 distilled references"


def test_a_run_that_was_begun_keeps_its_numbers_whatever_the_pace_is_now(tmp_path, monkeypatch):
    for settings in (config(), config(count=16), config(names=("abs-error", "rmia"), count=2)):
        for budget in (seconds_of(settings, 0), 1e9):
            fitted = fit(settings, budget / PLANNED + 1, monkeypatch=monkeypatch)
            folder = tmp_path / f"{settings.shadows.count}-{len(settings.attacks.names)}-{budget:.0f}"
            open_run(folder, {"config": fitted.config.to_dict()}, resume=False, facts={})
            assert with_numbers(settings, numbers_in(folder)) == fitted.config
    assert numbers_in(tmp_path / "nothing") is None


def test_a_null_target_shares_the_shadows_of_its_design():
    settings = config(count=4)
    plans = plan_targets(settings, [replace(DESIGN, others=())])
    assert needs_of(plans, settings, COHORT, PACE, TWO).trainings == 5


def test_budgets_are_times():
    assert [parse_budget(t) for t in ("90s", "45min", "2h", "1.5d", " 3 m ")] == [90, 2700, 7200, 129600, 180]
    for wrong in ("2", "h", "-1h", "0h", "1w"):
        with pytest.raises(ConfigError, match="--budget needs a time such as"):
            parse_budget(wrong)
