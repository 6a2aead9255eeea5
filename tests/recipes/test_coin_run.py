"""A run whose members coins decide, with a population and canaries, from the configuration to the report."""

import json
from pathlib import Path

import numpy as np
import pytest

from privoxel.config import parse_config
from privoxel.evaluation.archive import Archive
from privoxel.evaluation.results import Results
from privoxel.recipes.audit import RunOptions, run_audit

SETTINGS = {
    "seed": 3,
    "cohort": {"participants": 66, "resolution_mm": 8.0},
    "split": {"members": 18, "non_members": 18, "others": 4, "population": 5, "coin": True},
    "canaries": {"count": 12},
    "models": [{"name": "cnn3d", "width": 0.125, "head": "scaled"}],
    "training": {"epochs": 1, "learning_rate": 1e-3, "batch_size": 8, "threads": 1},
    "attacks": {"names": ["abs-error", "population", "rmia"], "repeats": 3},
    "shadows": {"count": 2, "epochs": 1},
    "report": {"slices": 0},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    patch, out = pytest.MonkeyPatch(), tmp_path_factory.mktemp("runs") / "coins"
    patch.setenv("PRIVOXEL_CACHE", str(tmp_path_factory.mktemp("cache")))
    run_audit(parse_config(SETTINGS), out, RunOptions())
    yield out
    patch.undo()


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return Results.model_validate_json((folder / "results.json").read_text())


def test_the_manifest_records_what_the_coins_said(folder):
    (design,) = json.loads((folder / "manifest.json").read_text())["designs"]
    sizes = {group: len(people) for group, people in design.items()}
    assert sizes["members"] + sizes["non_members"] == 36
    assert (sizes["population"], sizes["canaries"]) == (5, 12)
    assert 0 < sizes["inserted"] < 12
    assert set(design["inserted"]) < set(design["canaries"])


def test_nobody_set_aside_is_judged(results, folder):
    (target,) = results.targets
    assert target.design["participants"]["population"] == 5
    assert target.n_excluded == 4 + 5 + 12
    scores = Archive.load(folder / "scores.npz").targets["cnn3d"]
    assert len(np.unique(scores.participants)) == 36
    canaries = scores.canaries["abs-error"]
    assert not np.isin(canaries.participants, scores.participants).any()
    assert len(canaries.participants) == 12


def test_epsilon_is_bounded_on_participants_and_on_canaries(results, folder):
    ordinary, canaries = results.targets[0].epsilon
    assert (ordinary.on, canaries.on) == ("participants", "canaries")
    methods = [bound.method for bound in (*ordinary.bounds, *canaries.bounds)]
    assert ["one run" in method for method in methods] == [False, False, True, True, True, True]
    assert {bound.level for bound in (*ordinary.bounds, *canaries.bounds)} == {1 - 0.05 / 6}
    assert ordinary.upper is None
    assert "How much privacy the training loses at least" in (folder / "report.html").read_text()
