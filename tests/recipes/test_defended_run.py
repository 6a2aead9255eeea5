"""A run of a defended target whose shadows are defended as it is, from the command line to the report."""

import html
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from privoxel.evaluation.results import Results
from tests.recipes.commands import call, one_network

NAMES = ["abs-error", "rmia", "gradient-magnitude"]
DEFENCE = """
[shadows]
count = 2

[defence]
public_brains = 6
label_noise = 1.0
average_last = 2

[defence.pretraining]
epochs = 1

[defence.distillation]
epochs = 3

[defence.release]
round_years = 5.0
noise_years = 1.0
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVOXEL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "defended.toml"
    path.write_text(one_network(NAMES))
    return path


def test_defences_apply_to_targets_and_shadows_and_are_reported(config, tmp_path, monkeypatch):
    config.write_text(config.read_text() + DEFENCE)
    folder = tmp_path / "run"
    assert call(monkeypatch, "run", config, "-o", folder, "-q", "--jobs", 1) == 0
    results = Results.model_validate_json((folder / "results.json").read_text())
    (target,) = results.targets
    said = target.design["defence"]
    assert {"label_noise", "average_last", "distillation", "pretraining", "release"} <= set(said)
    assert float(said["released_members_mae"]) > 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["steps"]["cnn3d/training"]["defence"]["averaged_epochs"] == "2"
    assert "cnn3d-pretrained/training" in manifest["steps"]
    assert not (folder / "state").exists()  # where the teachers were
    weights = [*(folder / "snapshots" / "cnn3d").iterdir(), *(folder / "shadows").rglob("*.safetensors")]
    students = [path for path in weights if path.stem == "epoch-0003"]
    assert len(students) == 3  # the target's and two shadows'
    assert not list((folder / "shadows").rglob("teacher"))
    for path in students:
        with safe_open(path, "pt") as file:
            assert file.metadata()["defence.distillation"] == "{'epochs': 3}"
    before = (folder / "results.json").read_text()
    assert call(monkeypatch, "run", config, "-o", folder, "-q", "--resume") == 0
    assert (folder / "results.json").read_text() == before


def test_shadows_stop_by_the_gap_as_their_target_does(config, tmp_path, monkeypatch):
    text = config.read_text().replace("epochs = 2", "epochs = 4")
    config.write_text(text + "\n[shadows]\ncount = 2\n\n[defence]\nstop_gap = 0.0\n")
    folder = tmp_path / "run"
    assert call(monkeypatch, "run", config, "-o", folder, "-q", "--jobs", 1) == 0
    shadows = sorted((folder / "shadows").rglob("*.safetensors"))
    assert len(shadows) == 2
    predictions = np.load(folder / "signals" / "cnn3d-1-shadows" / "prediction.npy")
    assert predictions.shape[1] == 2
    assert np.isfinite(predictions).all()


def test_a_private_run_says_in_the_report_what_it_guarantees(config, tmp_path, monkeypatch):
    config.write_text(
        f"{one_network(['abs-error'], 'abs-error')}\n[privacy]\nnoise_multiplier = 1.0\ndelta = 1e-3\n"
    )
    folder = tmp_path / "run"
    assert call(monkeypatch, "run", config, "-o", folder, "-q", "--jobs", 1) == 0
    results = Results.model_validate_json((folder / "results.json").read_text())
    defence = results.targets[0].design["defence"]
    with safe_open(folder / "snapshots" / results.targets[0].name / "epoch-0002.safetensors", "pt") as file:
        assert file.metadata()["epsilon"] == defence["privacy_epsilon"]
    assert defence["privacy_guarantee"].startswith("ε = ")
    page = html.unescape((folder / "report.html").read_text())
    assert defence["privacy_guarantee"] in page
    assert "seeded by the operating system" in page
    card = json.loads((folder / "privacy_card.json").read_text())
    assert card["subjects"][0]["privacy"]["epsilon"] == float(defence["privacy_epsilon"])
    assert defence["privacy_guarantee"] in (folder / "privacy_card.md").read_text()
    assert "Opacus' own secure_mode cannot be used here" in page


@pytest.mark.parametrize("private", [False, True])
def test_training_starts_from_the_pretrained_weights(private, config, tmp_path, monkeypatch):
    """With hardly any learning rate every training leaves the weights that it started from."""
    text = one_network(["abs-error", "rmia"], "abs-error").replace(
        "learning_rate = 1e-3", "learning_rate = 1e-12"
    )
    text += "\n[shadows]\ncount = 2\n\n[defence]\npublic_brains = 6\n"
    text += "\n[defence.pretraining]\nepochs = 2\nlearning_rate = 1e-3\n"
    if private:
        text += '\n[privacy]\nnoise_multiplier = 1.0\nrandomness = "seeded"\n'
    config.write_text(text)
    folder = tmp_path / "run"
    assert call(monkeypatch, "run", config, "-o", folder, "-q", "--jobs", 1) == 0
    snapshots = folder / "snapshots"
    (start,) = (snapshots / "cnn3d-pretrained").iterdir()
    targets = [path for name in ("cnn3d", "cnn3d-null") for path in (snapshots / name).iterdir()]
    shadows = [*(folder / "shadows").rglob("*.safetensors")]
    assert targets
    assert shadows
    pretrained = load_file(start)
    for path in targets + shadows:
        for name, tensor in load_file(path).items():
            torch.testing.assert_close(tensor, pretrained[name], rtol=0.0, atol=1e-9, msg=f"{path}: {name}")
