import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from privoxel.attacks import ATTACKS
from privoxel.cohort.splits import Design
from privoxel.config import parse_config
from privoxel.errors import ConfigError
from privoxel.executor import Executor
from privoxel.models import build_model, spec_of
from privoxel.progress import Silent
from privoxel.recipes.feasible import check_feasible
from privoxel.recipes.judging import judge
from privoxel.recipes.plan import attacks_on, chosen_attacks
from privoxel.recipes.shadows import Fidelity, observe_shadows, shadow_design, unsupported
from privoxel.recipes.target import TargetPlan, Workplace
from privoxel.store import open_run
from privoxel.training.loop import load_weights, predict_ages
from privoxel.training.runtime import Runtime
from tests.conftest import make_cohort

COHORT = make_cohort(34)
PEOPLE = COHORT.covariates.participants
DESIGN = Design(PEOPLE[:11], PEOPLE[11:23], others=PEOPLE[23:])
TINY = {
    "models": [{"name": "cnn3d", "width": 0.125, "head": "scaled", "dropout": 0.0}],
    "training": {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3},
}


def workplace(tmp_path, names=("rmia", "difficulty", "abs-error"), executor=None, **shadows):
    settings = {"shadows": {"count": 4} | shadows, "attacks": {"names": list(names)}, **TINY}
    config = parse_config(settings)
    folder = open_run(tmp_path, config.to_dict(), resume=True, facts={})
    return Workplace(config, COHORT, folder, Runtime(), Silent(), 1, executor or Executor())


def plan(place, **changes):
    return replace(TargetPlan("cnn3d", place.config.models[0], DESIGN), **changes)


def observed(place, names=("rmia",)):
    return observe_shadows(plan(place), [ATTACKS[name] for name in names], place)


def test_the_table_holds_each_shadow_as_it_was_trained(tmp_path):
    place = workplace(tmp_path)
    shadows = observed(place)
    design = shadow_design(plan(place), place.config)
    table = shadows.references
    assert len(table.models) == len(design) == 4
    judged = COHORT.rows_of((*DESIGN.members, *DESIGN.non_members))
    for k in range(4):
        inside = set(design.members(k))
        assert [scan.participant in inside for scan in table.scans] == table.is_member(k).tolist()
        model = build_model(spec_of(place.config.models[0]), COHORT.grid.shape, 0.0, 0)
        load_weights(model, tmp_path / "shadows" / "cnn3d-1" / f"{k:04d}" / "epoch-0002.safetensors")
        ages = predict_ages(model, COHORT, judged, batch_size=4, runtime=Runtime())
        np.testing.assert_allclose(table.read("prediction", model=k), ages, rtol=1e-4)
    assert len({float(table.read("prediction", model=k)[0]) for k in range(4)}) == 4


def test_shadows_are_the_same_whatever_trains_them(tmp_path):
    one = observed(workplace(tmp_path / "serial")).references
    two = observed(workplace(tmp_path / "pool", executor=Executor("joblib", 2))).references
    for k in range(4):
        np.testing.assert_array_equal(one.read("prediction", model=k), two.read("prediction", model=k))


def test_a_finished_shadow_is_not_trained_again(tmp_path):
    place = workplace(tmp_path)
    first = observed(place).references
    kept = sorted((tmp_path / "shadows").rglob("*.safetensors"))
    times = [path.stat().st_mtime_ns for path in kept]
    again = observed(workplace(tmp_path)).references
    assert [path.stat().st_mtime_ns for path in kept] == times
    np.testing.assert_array_equal(first.read("prediction", model=3), again.read("prediction", model=3))
    assert len(kept) == 4
    assert not list((tmp_path / "shadows").rglob("training.pt"))


def test_fidelity_is_the_shadows_error_on_their_own_members_and_on_others(tmp_path):
    place = workplace(tmp_path)
    found = observed(place).fidelity
    design, errors = shadow_design(plan(place), place.config), {"members": [], "non_members": []}
    for k in range(4):
        model = build_model(spec_of(place.config.models[0]), COHORT.grid.shape, 0.0, 0)
        load_weights(model, tmp_path / "shadows" / "cnn3d-1" / f"{k:04d}" / "epoch-0002.safetensors")
        for group, people in (("members", design.members(k)), ("non_members", design.unseen(k))):
            rows = COHORT.rows_of(people)
            ages = predict_ages(model, COHORT, rows, batch_size=4, runtime=Runtime())
            errors[group].append(np.abs(ages - COHORT.covariates.age[rows]).mean())
    assert found.members == pytest.approx(np.mean(errors["members"]), rel=1e-5)
    assert found.non_members == pytest.approx(np.mean(errors["non_members"]), rel=1e-5)


def test_shadows_unlike_the_target_are_called_so():
    alike = Fidelity(4, 1.0, 4.0)
    assert alike.note(1.1, 4.2) == "shadows=4, MAE 1.0/4.0 years (target 1.1/4.2)"
    assert "UNLIKE the target" in alike.note(0.5, 4.0)
    assert "UNLIKE the target" in alike.note(1.0, 6.5)


def test_population_shadows_are_as_large_as_the_target_and_outside_for_everyone(tmp_path):
    place = workplace(tmp_path, design="population", fraction=0.7)
    shadows = observed(place, names=("rmia", "shadow-prediction-label"))
    assert (shadows.references.membership == 0).all()
    assert {scan.participant for scan in shadows.first.scans} == set(DESIGN.others)
    assert shadows.first.is_member().sum() == round(0.7 * 11)
    default = workplace(tmp_path / "default", design="population").config
    assert shadow_design(plan(place), default).inside.sum(axis=1).tolist() == [11] * 4


def test_warm_starts_share_a_beginning_and_train_less(tmp_path):
    place = workplace(tmp_path, design="population", warm_start=True, epochs=1)
    observed(place)
    root = tmp_path / "shadows" / "cnn3d-1"
    assert sorted(p.relative_to(root).as_posix() for p in root.rglob("*.safetensors")) == [
        "0000/epoch-0002.safetensors",
        *(f"000{k}/epoch-0001.safetensors" for k in (1, 2, 3)),
    ]
    model = build_model(spec_of(place.config.models[0]), COHORT.grid.shape, 0.0, 0)
    weights = []
    for path in ("0000/epoch-0002", "0001/epoch-0001"):
        load_weights(model, root / f"{path}.safetensors")
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    # Three Adam steps of 1e-3 from the same weights, not another initialisation.
    assert 0 < (weights[0] - weights[1]).abs().max() < 0.01


def test_warm_starts_of_a_balanced_design_are_refused():
    with pytest.raises(ConfigError, match="warm_start needs design = 'population'"):
        parse_config({"shadows": {"count": 2, "warm_start": True}})


def test_an_attack_that_needs_more_shadows_is_named_or_left_out_of_all(tmp_path):
    place = workplace(tmp_path, names=("abs-error", "lira-online"), count=2)
    with pytest.raises(
        ConfigError, match=r"lira-online needs 2 shadows trained on every participant.*got 1 and 1"
    ):
        check_feasible(place.config, [DESIGN], chosen_attacks(place.config), COHORT)
    everything = workplace(tmp_path / "all", names=("all",), count=2).config
    mine = {attack.name for attack in attacks_on(plan(place), chosen_attacks(everything), everything)}
    assert {"rmia", "base", "shadow-combined"} <= mine
    assert not {"lira-online", "lira-offline"} & mine
    outside = workplace(tmp_path / "population", names=("all",), design="population").config
    design = shadow_design(plan(place), outside)
    assert set(unsupported(list(ATTACKS.values()), design, outside)) == {
        "lira-online",
        "lira-online-scan",
        "shadow-prediction-label",
        "shadow-combined",
    }


def test_attacks_with_references_are_not_part_of_all_without_shadows():
    chosen = chosen_attacks(parse_config({"attacks": {"names": ["all"]}}))
    assert "rmia" not in chosen
    assert "abs-error" in chosen
    with pytest.raises(ConfigError, match=r"rmia need shadow models, got none. Set \[shadows\] count"):
        chosen_attacks(parse_config({"attacks": {"names": ["abs-error", "rmia"]}}))


def test_population_shadows_need_others(tmp_path):
    place = workplace(tmp_path, design="population")
    with pytest.raises(ConfigError, match=r"participants who are not judged, got none. Set \[split\] others"):
        shadow_design(plan(place, design=replace(DESIGN, others=())), place.config)


@pytest.mark.parametrize("is_null", [False, True])
def test_a_judged_target_has_scores_of_shadow_attacks_and_says_how_like_it_they_are(tmp_path, is_null):
    place = workplace(tmp_path, names=("rmia", "difficulty", "abs-error"))
    judged = judge(plan(place, is_null=is_null), chosen_attacks(place.config), place)
    if is_null:
        assert set(judged.scores.evaluated) == {"abs-error"}
        return
    assert set(judged.scores.evaluated) == {"rmia", "difficulty", "abs-error"}
    assert np.isfinite(judged.scores.evaluated["rmia"].scores).sum() > 3 * 20
    assert any(note.startswith("shadows=4, MAE") for note in judged.facts["rmia"].notes)
    assert not any("shadows" in note for note in judged.facts["abs-error"].notes)
    assert json.loads((tmp_path / "manifest.json").read_text())["steps"]["cnn3d-1/shadows"] == {"shadows": 4}
