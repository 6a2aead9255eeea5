import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from privoxel.attacks import ATTACKS, CENTRED
from privoxel.attacks.base import ReferenceKind, ThreatModel, reference_kind
from privoxel.cohort.splits import Design
from privoxel.config import parse_config
from privoxel.errors import ConfigError, StoreError
from privoxel.executor import Executor, one_thread
from privoxel.models import build_model, spec_of
from privoxel.progress import Silent
from privoxel.recipes.feasible import check_feasible
from privoxel.recipes.judging import COVARIATES_BEST, COVARIATES_ONLY, judge
from privoxel.recipes.plan import attacks_on, chosen_attacks, not_run, plan_targets
from privoxel.recipes.shadow_plans import shadow_design, shadow_name, threat_model_of, unsupported
from privoxel.recipes.shadow_training import ShadowTraining, train_shadow
from privoxel.recipes.shadows import FROM_TARGET, Fidelity, observe_shadows
from privoxel.recipes.target import TargetPlan, Workplace, observe
from privoxel.seeding import Streams
from privoxel.store import open_run
from privoxel.training.job import TrainingFolders
from privoxel.training.loop import load_weights, predict_ages
from privoxel.training.runtime import Runtime
from tests.conftest import make_cohort

SHADOW, DISTILLED = ReferenceKind.SHADOW, ReferenceKind.DISTILLED
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
    table = shadows.by_kind[SHADOW].table
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
    one = observed(workplace(tmp_path / "serial")).by_kind[SHADOW].table
    two = observed(workplace(tmp_path / "pool", executor=Executor("joblib", 2))).by_kind[SHADOW].table
    for k in range(4):
        np.testing.assert_array_equal(one.read("prediction", model=k), two.read("prediction", model=k))


def test_a_finished_shadow_is_not_trained_again(tmp_path):
    place = workplace(tmp_path)
    first = observed(place).by_kind[SHADOW].table
    kept = sorted((tmp_path / "shadows").rglob("*.safetensors"))
    times = [path.stat().st_mtime_ns for path in kept]
    again = observed(workplace(tmp_path)).by_kind[SHADOW].table
    assert [path.stat().st_mtime_ns for path in kept] == times
    np.testing.assert_array_equal(first.read("prediction", model=3), again.read("prediction", model=3))
    assert len(kept) == 4
    assert not list((tmp_path / "shadows").rglob("training.pt"))


def test_fidelity_is_the_shadows_error_on_their_own_members_and_on_others(tmp_path):
    place = workplace(tmp_path)
    found = observed(place).by_kind[SHADOW].fidelity
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
    assert (shadows.by_kind[SHADOW].table.membership == 0).all()
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
    with pytest.raises(ConfigError, match="warm_start needs design = 'population'"):
        parse_config({"shadows": {"count": 2, "warm_start": "target"}})


def test_an_attack_that_needs_more_shadows_is_named_or_left_out_of_all(tmp_path):
    place = workplace(tmp_path, names=("abs-error", "lira-online"), count=2)
    with pytest.raises(
        ConfigError, match=r"lira-online needs 2 shadow models trained on every participant.*got 1 and 1"
    ):
        check_feasible(place.config, [DESIGN], chosen_attacks(place.config), COHORT)
    everything = workplace(tmp_path / "all", names=("all",), count=2).config
    mine = {attack.name for attack in attacks_on(plan(place), chosen_attacks(everything), everything)}
    assert {"rmia", "base", "shadow-combined"} <= mine
    assert not {"lira-online", "lira-offline"} & mine
    idle = not_run([plan(place)], chosen_attacks(everything), everything)
    assert "got 1 and 1" in idle["lira-online"]
    assert mine == set(chosen_attacks(everything)) - set(idle)
    outside = workplace(tmp_path / "population", names=("all",), design="population").config
    alone = [attack for attack in ATTACKS.values() if reference_kind(attack) is SHADOW]
    assert set(unsupported(alone, plan(place), outside)) == {
        "lira-online",
        "lira-online-scan",
        "centred-lira-online",
        "tube-centred-lira-online",
        "rmia-online",
        "base-online",
        "shadow-prediction-label",
        "shadow-combined",
        "shadow-stacked",
    }


def test_trainings_of_one_design_share_shadows_and_have_students_of_their_own():
    config = parse_config(
        {"split": {"trainings": 2}, "shadows": {"count": 2, "distilled": 1, "design": "population"}}
    )
    first, again, null = plan_targets(config, [DESIGN])
    assert [one.name for one in (first, again, null)] == ["cnn3d", "cnn3d-training-2", "cnn3d-null"]
    assert shadow_name(again, config) == shadow_name(first, config)
    students = {shadow_name(one, config, ReferenceKind.DISTILLED) for one in (first, again, null)}
    assert len(students) == 3


def test_attacks_with_references_are_not_part_of_all_without_shadows():
    chosen = chosen_attacks(parse_config({"attacks": {"names": ["all"]}}))
    assert "rmia" not in chosen
    assert "abs-error" in chosen
    with pytest.raises(ConfigError, match=r"rmia need shadow models, got none. Set \[shadows\] count"):
        chosen_attacks(parse_config({"attacks": {"names": ["abs-error", "rmia"]}}))


def test_centred_forms_are_run_by_name_and_need_what_their_attack_needs():
    names = ["abs-error", "centred-abs-error", "tube-centred-difficulty"]
    config = parse_config({"attacks": {"names": names}, "shadows": {"count": 2}})
    assert set(chosen_attacks(config)) == set(names)
    assert not set(CENTRED) & set(chosen_attacks(parse_config({"attacks": {"names": ["all"]}})))
    with pytest.raises(ConfigError, match="tube-centred-difficulty need shadow models, got none"):
        chosen_attacks(parse_config({"attacks": {"names": names}}))
    for none in ("centred-gradient-norm", "centred-stated-likelihood"):
        with pytest.raises(ConfigError, match=rf"got {none}.*on predictions alone"):
            chosen_attacks(parse_config({"attacks": {"names": ["abs-error", none]}}))


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


def test_scores_without_the_control_of_the_verdict_are_made_again(tmp_path):
    place = workplace(tmp_path, names=("abs-error",))
    attacks = chosen_attacks(place.config)
    finished = judge(plan(place), attacks, place)
    kept = place.folder.manifest["steps"]["cnn3d/attacks"]
    assert set(kept) == {"abs-error", COVARIATES_ONLY, COVARIATES_BEST}
    place.folder.finish("cnn3d/attacks", **{k: v for k, v in kept.items() if k != COVARIATES_BEST})
    again = judge(plan(place), attacks, place)
    assert again.facts.keys() == finished.facts.keys()
    np.testing.assert_array_equal(
        again.scores.controls[COVARIATES_BEST].scores, finished.scores.controls[COVARIATES_BEST].scores
    )


def with_target(place, **changes):
    """Train the target of ``plan`` in the run folder and return its plan and table."""
    target = plan(place, **changes)
    return target, observe(target, [ATTACKS["abs-error"]], place)


def weights_of(tmp_path, name, shape=COHORT.grid.shape):
    model = build_model(spec_of(parse_config(TINY).models[0]), shape, 0.0, 0)
    load_weights(model, tmp_path / name)
    return model


def test_a_student_is_taught_what_the_target_says_of_the_others(tmp_path):
    place = workplace(tmp_path, names=("distilled-difficulty",), count=0, distilled=2)
    target, seen = with_target(place)
    found = observe_shadows(target, [ATTACKS["distilled-difficulty"]], place)
    rows = COHORT.rows_of(DESIGN.others)
    teacher = weights_of(tmp_path, "snapshots/cnn3d/epoch-0002.safetensors")
    said = predict_ages(teacher, COHORT, rows, batch_size=4, runtime=Runtime())
    ages = COHORT.covariates.age.copy()
    ages[rows] = np.load(tmp_path / "signals" / "cnn3d-1-distilled-lessons" / "prediction.npy")[0, 0]
    np.testing.assert_allclose(ages[rows], said, rtol=1e-5)
    lessons = replace(COHORT, covariates=replace(COHORT.covariates, age=ages))
    mine = ShadowTraining(
        place.config.models[0],
        place.config.training.model_copy(update={"snapshot_every": 2}),
        lessons,
        rows,
        rows,
        Streams(0).child("shadows/cnn3d-1-distilled").child("1"),
        TrainingFolders(tmp_path / "mine", tmp_path / "mine" / "state"),
        Runtime(),
    )
    with one_thread():
        train_shadow(mine)
    one = weights_of(tmp_path, "mine/epoch-0002.safetensors")
    two = weights_of(tmp_path, "shadows/cnn3d-1-distilled/0001/epoch-0002.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    table = found.by_kind[DISTILLED].table
    assert table.scans == seen.table.scans
    assert (table.membership == 0).all()
    assert len(table.models) == 2


def test_students_errors_are_measured_against_the_ages(tmp_path):
    place = workplace(tmp_path, names=("distilled-difficulty",), count=0, distilled=1)
    target, seen = with_target(place)
    attack = ATTACKS["distilled-difficulty"]
    found = observe_shadows(target, [attack], place)
    student = weights_of(tmp_path, "shadows/cnn3d-1-distilled/0000/epoch-0002.safetensors")
    others = COHORT.rows_of(DESIGN.others)
    ages = predict_ages(student, COHORT, others, batch_size=4, runtime=Runtime())
    fidelity = found.by_kind[DISTILLED].fidelity
    assert fidelity.members == pytest.approx(np.abs(ages - COHORT.covariates.age[others]).mean(), rel=1e-5)
    table, outside = found.by_kind[DISTILLED].table, ~seen.table.is_member()
    apart = np.abs(table.error() - seen.table.error())[outside].mean()
    unseen = np.abs(seen.table.error())[outside].mean()
    assert found.notes_for(attack, seen.table) == (fidelity.student_note(apart, unseen),)
    assert f"students=1, {apart:.1f} years from the target" in fidelity.student_note(apart, unseen)
    few = seen.table.select(np.arange(len(outside)) % 2 == 0)  # references may have seen more than is judged
    apart, unseen = (
        np.abs(e)[::2][outside[::2]].mean() for e in (table.error() - seen.table.error(), seen.table.error())
    )
    assert found.notes_for(attack, few) == (fidelity.student_note(apart, unseen),)


def test_a_student_no_closer_to_the_target_than_the_ages_is_called_unlike():
    student = Fidelity(2, 1.0, 4.0)
    assert "UNLIKE" not in student.student_note(1.5, 4.0)
    assert "UNLIKE the target" in student.student_note(4.0, 4.0)


def test_students_and_shadows_stand_side_by_side_and_are_not_trained_again(tmp_path):
    names = ("rmia", "distilled-rmia", "abs-error")
    place = workplace(tmp_path, names=names, design="population", distilled=1)
    judged = judge(plan(place), chosen_attacks(place.config), place)
    kept = sorted((tmp_path / "shadows").rglob("*.safetensors"))
    assert len(kept) == 5
    assert any(note.startswith("shadows=4, MAE") for note in judged.facts["rmia"].notes)
    assert any(note.startswith("students=1, ") for note in judged.facts["distilled-rmia"].notes)
    times = [path.stat().st_mtime_ns for path in kept]
    again = workplace(tmp_path, names=names, design="population", distilled=1)
    observe_shadows(plan(again), [ATTACKS["distilled-rmia"], ATTACKS["rmia"]], again)
    assert [path.stat().st_mtime_ns for path in kept] == times


def test_every_target_has_students_of_its_own(tmp_path):
    place = workplace(tmp_path, names=("distilled-difficulty",), count=0, distilled=1)
    tables = []
    for name, is_null in (("cnn3d", False), ("cnn3d-null", True)):
        target, _ = with_target(place, name=name, is_null=is_null)
        found = observe_shadows(target, [ATTACKS["distilled-difficulty"]], place)
        tables.append(found.by_kind[DISTILLED].table.error())
    assert not np.array_equal(*tables)
    assert {p.name for p in (tmp_path / "shadows").iterdir()} == {
        "cnn3d-1-distilled",
        "cnn3d-1-null-distilled",
    }


def test_shadows_may_start_from_the_targets_weights_and_are_then_its_own(tmp_path):
    place = workplace(tmp_path, design="population", warm_start="target", epochs=1)
    target, seen = with_target(place)
    found = observed(place)
    root = tmp_path / "shadows" / "cnn3d-1-tuned"
    assert len(list(root.rglob("epoch-0001.safetensors"))) == 4
    ends = []
    for name in ("snapshots/cnn3d/epoch-0002", "shadows/cnn3d-1-tuned/0003/epoch-0001"):
        model = weights_of(tmp_path, f"{name}.safetensors")
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    # Three Adam steps of 1e-3 from the same weights.
    assert 0 < (ends[0] - ends[1]).abs().max() < 0.01
    assert FROM_TARGET in found.notes_for(ATTACKS["rmia"], seen.table)
    assert threat_model_of(ATTACKS["rmia"], place.config) is ThreatModel.WHITE_BOX
    assert threat_model_of(ATTACKS["abs-error"], place.config) is ThreatModel.BLACK_BOX
    other = workplace(tmp_path / "other", design="population", warm_start=True).config
    assert threat_model_of(ATTACKS["rmia"], other) is ThreatModel.BLACK_BOX
    assert shadow_name(target, other) == shadow_name(replace(target, is_null=True), other) == "cnn3d-1"


def test_models_that_need_the_targets_weights_say_so_without_them(tmp_path):
    place = workplace(tmp_path, design="population", warm_start="target")
    with pytest.raises(StoreError, match=r"Reference models of cnn3d need its weights, got none .*Train it"):
        observed(place)


def test_attacks_on_students_are_not_part_of_all_without_them(tmp_path):
    chosen = chosen_attacks(parse_config({"attacks": {"names": ["all"]}, "shadows": {"count": 2}}))
    assert "rmia" in chosen
    assert "distilled-rmia" not in chosen
    settings = {"attacks": {"names": ["abs-error", "distilled-rmia"]}, "shadows": {"count": 2}}
    with pytest.raises(
        ConfigError,
        match=r"distilled-rmia need distilled references, got none. Set \[shadows\] distilled",
    ):
        chosen_attacks(parse_config(settings))
    place = workplace(tmp_path, names=("abs-error", "distilled-lira-offline"), count=0, distilled=1)
    with pytest.raises(ConfigError, match=r"needs 0 distilled references trained .* and 2 that are not"):
        check_feasible(place.config, [DESIGN], chosen_attacks(place.config), COHORT)
    alone = replace(DESIGN, others=())
    with pytest.raises(ConfigError, match=r"Distilled references need participants .*Set \[split\] others"):
        check_feasible(place.config, [alone], chosen_attacks(place.config), COHORT)
