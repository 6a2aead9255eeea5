"""A run of attacks that read more than the last weights: copies of scans, and the course of the training."""

import numpy as np
import pytest
import torch

from privoxel.attacks import WHEN_NAMED, get_attack, list_attacks
from privoxel.attacks.base import Course, course_of, needs_models, optional_signals
from privoxel.config import parse_config
from privoxel.evaluation.results import Results
from privoxel.models import ModelSpec, build_model
from privoxel.progress import Silent
from privoxel.recipes.audit import draw_designs
from privoxel.recipes.course import along, course_bytes, gradients_per_move, with_courses
from privoxel.recipes.plan import chosen_attacks, plan_targets
from privoxel.recipes.target import Workplace, needed_signals, observe
from privoxel.store import open_run
from privoxel.training.runtime import Runtime
from tests.conftest import make_cohort
from tests.recipes.commands import call, one_network

NAMES = ["abs-error", *(name for name, attack in WHEN_NAMED.items() if not needs_models(attack))]
SGD = 'learning_rate = 1e-3\noptimiser = "sgd"'


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVOXEL_CACHE", str(tmp_path / "cache"))
    return one_network(NAMES, "trajectory-fall").replace("learning_rate = 1e-3", SGD)


def test_every_attack_that_all_leaves_out_runs_on_one_model_if_named(settings, tmp_path, monkeypatch):
    path, folder = tmp_path / "run.toml", tmp_path / "run"
    path.write_text(settings)
    assert call(monkeypatch, "run", path, "-o", folder, "-q", "--jobs", 1) == 0
    results = Results.model_validate_json((folder / "results.json").read_text())
    (target,) = results.targets
    assert {attack.name for attack in target.attacks} == set(NAMES)
    notes = {attack.name: attack.notes for attack in target.attacks}
    assert any("glir steps=1" in note for note in notes["glir"])
    assert any("1 intervals" in note for note in notes["movement-alignment"])
    controls = {control.name for control in target.controls}
    assert {"null_pseudo_members", "null_target:trajectory-fall"} <= controls
    assert "gradient likelihood ratio" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"sgd"', '"adam"'), "Attack glir needs movements that are mean gradients"),
        (("snapshot_every = 1", "snapshot_every = 2"), "need at least 2 snapshots of cnn3d, got"),
    ],
)
def test_a_training_without_such_a_course_is_refused_before_it_begins(
    settings, tmp_path, monkeypatch, capsys, change, message
):
    path = tmp_path / "run.toml"
    path.write_text(settings.replace(*change))
    assert call(monkeypatch, "run", path, "--dry-run") == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_all_leaves_them_out_and_a_name_adds_one():
    everything = chosen_attacks(parse_config({"attacks": {"names": ["all"]}}))
    assert not set(everything) & set(WHEN_NAMED)
    both = chosen_attacks(parse_config({"attacks": {"names": ["all", "stability"]}}))
    assert set(both) - set(everything) == {"stability"}


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Return a tiny target trained by SGD, observed along its course, and where."""
    config = parse_config(
        {
            "seed": 3,
            "split": {"members": 7, "non_members": 6},
            "models": [{"name": "cnn3d", "width": 0.125, "head": "scaled"}],
            "training": {
                "epochs": 3,
                "snapshot_every": 2,
                "optimiser": "sgd",
                "learning_rate": 1e-4,
                "weight_decay": 0.0,
                "batch_size": 3,
                "threads": 1,
            },
            "attacks": {"names": NAMES},
        }
    )
    cohort = make_cohort(13)
    place = tmp_path_factory.mktemp("run") / "run"
    folder = open_run(place, {"config": config.to_dict()}, resume=False, facts={})
    workplace = Workplace(config, cohort, folder, Runtime(threads=1), Silent())
    (plan,) = plan_targets(config, draw_designs(config, cohort))
    attacks = tuple(chosen_attacks(config).values())
    before = observe(plan, attacks, workplace)
    return with_courses(before, attacks, workplace), before, workplace, attacks


def test_snapshots_and_intervals_are_those_that_were_kept(watched):
    observed, _, _, _ = watched
    assert observed.courses[Course.KEPT].snapshots == ("epoch-0002", "epoch-0003")
    assert observed.courses[Course.INTERVALS].snapshots == ("epoch-0002",)
    last = observed.courses[Course.KEPT].read("prediction")
    np.testing.assert_allclose(last, observed.table.read("prediction"), rtol=1e-4)


def test_a_view_along_the_course_has_the_scans_and_the_membership_of_the_table(watched):
    observed, _, _, _ = watched
    flipped = observed.table.select([4, 1, 7]).with_membership([True, False, True])
    seen = along(observed.courses, get_attack("trajectory"), flipped)
    assert seen.scans == flipped.scans
    np.testing.assert_array_equal(seen.membership, flipped.membership)
    np.testing.assert_allclose(seen.read("prediction"), flipped.read("prediction"), rtol=1e-4)
    assert along(observed.courses, get_attack("abs-error"), flipped) is flipped


def test_the_weights_of_the_target_stay_and_nothing_is_made_twice(watched):
    observed, before, workplace, attacks = watched
    again = with_courses(before, attacks, workplace)
    assert observed.model is before.model
    rows = workplace.cohort.rows_of([scan.participant for scan in before.table.scans][:1])
    with torch.no_grad():
        now = before.model(torch.from_numpy(workplace.cohort.batch(rows)))
    assert float(now) == pytest.approx(float(before.table.read("prediction")[0]), rel=1e-4)
    for name, array in again.table.values.items():
        np.testing.assert_array_equal(array.read(), observed.table.read(name))


def test_a_movement_becomes_a_mean_gradient_by_learning_rate_updates_and_loss_scale(watched):
    observed, _, workplace, _ = watched
    ages = workplace.cohort.covariates.age[workplace.training_rows(observed.plan.trained_on)]
    (factor,) = gradients_per_move(observed, workplace)  # one epoch of three updates
    assert factor == pytest.approx(np.var(ages) / (1e-4 * 3))


def test_disk_is_counted_for_what_is_read_beyond_the_last_weights(watched):
    observed, _, workplace, attacks = watched
    config, plan = workplace.config, observed.plan
    assert course_bytes([get_attack("abs-error")], plan, config, 14) == 0
    assert course_bytes([get_attack("trajectory")], plan, config, 14) == 8
    assert course_bytes([get_attack("stability-noise")], plan, config, 14) == 24
    folder = workplace.folder.path / "signals" / plan.name
    parts = [p for part in ("copies", "kept", "intervals") for p in (folder / part).rglob("*.npy")]
    stored = sum(np.load(p, mmap_mode="r").nbytes for p in parts) / len(observed.table)
    assert stored <= course_bytes(attacks, plan, config, 14) <= 2.5 * stored


@pytest.mark.parametrize("network", ["cnn3d", "slice-mean"])
def test_an_attack_gets_the_same_signals_whatever_runs_beside_it(network):
    model = build_model(ModelSpec(network, width=0.125), (7, 8, 9), 60.0, 0)
    everyone = (*list_attacks(), *WHEN_NAMED.values())
    beside = set(needed_signals(model, everyone, ()))
    for attack in everyone:
        if course_of(attack) is Course.LAST:
            read = attack.requires | optional_signals(attack)
            assert set(needed_signals(model, [attack], ())) & read == beside & read, attack.name
    assert {"gradient:conv1", "gradient:conv6", "gradient:output"} <= set(
        needed_signals(model, [get_attack("default")], ())
    )
