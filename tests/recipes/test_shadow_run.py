"""A run whose attacks need shadow models, from the command line to the report."""

import json

import numpy as np
import pytest

from privoxel.evaluation.results import Results
from tests.rays import DEPRECATED, needs_ray
from tests.recipes.commands import call, one_network

NAMES = [
    "abs-error", "rmia", "difficulty", "shadow-prediction-label", "distilled-difficulty",
    "centred-abs-error", "tube-centred-difficulty",
]  # fmt: skip


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVOXEL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "shadows.toml"
    path.write_text(f"{one_network(NAMES)}\n[shadows]\ncount = 2\nepochs = 1\ndistilled = 1\n")
    return path


def test_a_run_with_shadows_reports_their_attacks_and_how_like_the_target_they_are(
    config, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    assert call(monkeypatch, "run", config, "-o", folder, "-q", "--jobs", 2) == 0
    results = Results.model_validate_json((folder / "results.json").read_text())
    (target,) = results.targets
    assert {attack.name for attack in target.attacks} == set(NAMES)
    notes = {attack.name: attack.notes for attack in target.attacks}
    assert all(any("shadows=2, MAE" in note for note in notes[name]) for name in NAMES[1:4])
    assert any("shadows=2, MAE" in note for note in notes["tube-centred-difficulty"])
    assert any("students=1, " in note for note in notes["distilled-difficulty"])
    assert {"null_target:rmia", "null_pseudo_members"} <= {control.name for control in target.controls}
    assert len(list((folder / "shadows" / "cnn3d-1").glob("*/epoch-0001.safetensors"))) == 2
    assert len(list((folder / "shadows" / "cnn3d-1-distilled").glob("*/epoch-0001.safetensors"))) == 1
    assert "RMIA" in (folder / "report.html").read_text()


def test_a_dry_run_counts_the_trainings_and_fits_them_into_a_budget(config, monkeypatch, capsys):
    assert call(monkeypatch, "run", config, "--dry-run", "--json", "--jobs", 1) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["shadows"] == 2
    assert plan["distilled"] == 1
    assert plan["trainings"] == 5  # target, null target, two shadows of their design, a student of the target
    assert "core-hours" in plan["needs"]
    assert call(monkeypatch, "run", config, "--dry-run", "--budget", "1d", "--json") == 0
    assert json.loads(capsys.readouterr().out)["shadows"] == 2
    assert call(monkeypatch, "run", config, "--dry-run", "--budget", "0.001s") == 2
    assert "--budget 0 s needs to hold" in capsys.readouterr().err


def test_a_run_within_a_budget_goes_on_by_the_same_command_whatever_the_pace_is_then(
    config, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "run"

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("privoxel.recipes.audit.read_cohort", interrupted)
        assert call(patch, "run", config, "-o", folder, "-q", "--jobs", 1, "--budget", "1d") == 3
    assert "the same command with --resume goes on" in capsys.readouterr().err
    log = (folder / "logs" / "run.log").read_text()
    assert "Budget 24.0 h: 2 shadow models and 1 distilled references a target. 5 models to train" in log
    # what would be chosen now is nothing at all, as on a machine that has become very slow
    assert call(monkeypatch, "run", config, "-o", folder, "-q", "--jobs", 1, "--budget", "0.001s") == 2
    assert "Continue it with --resume" in capsys.readouterr().err
    resumed = ("run", config, "-o", folder, "-q", "--jobs", 1, "--resume", "--budget", "0.001s")
    assert call(monkeypatch, *resumed) == 0
    assert len(list((folder / "shadows" / "cnn3d-1").glob("*/epoch-0001.safetensors"))) == 2


def test_a_share_of_a_gpu_without_ray_is_refused(config, tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, "run", config, "-o", tmp_path / "run", "--gpu-share", "0.25") == 2
    assert "--gpu-share 0.25 without --ray" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@needs_ray
@DEPRECATED
def test_a_run_on_ray_gives_the_scores_of_one_in_processes(config, tmp_path, monkeypatch):
    places = {"processes": (), "ray": ("--ray", "local", "--gpu-share", 0)}
    for name, options in places.items():
        assert call(monkeypatch, "run", config, "-o", tmp_path / name, "-q", "--jobs", 2, *options) == 0
    one, two = (np.load(tmp_path / name / "scores.npz") for name in places)
    assert one.files == two.files
    for name in one.files:
        np.testing.assert_array_equal(one[name], two[name])
