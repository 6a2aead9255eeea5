"""A run in which the adversary holds another scan of the people, from the configuration to the report."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from privoxel import cli
from privoxel.evaluation.archive import Archive
from privoxel.evaluation.results import Results

TINY = (Path(__file__).parent / "tiny.toml").read_text()


def call(monkeypatch, *arguments):
    """Run the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["privoxel", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def settings(*, sessions: int = 1, trained: int | None = None) -> str:
    before, slices = TINY.split('[[models]]\nname = "slice-mean"')
    rest = slices[slices.index("[training]") :]
    names = ["abs-error", "prediction-label", "centred-error", "rmia", "distilled-rmia"]
    rest += f"names = {json.dumps(names)}\n"
    if trained is not None:
        rest += 'other_scans = ["rmia"]\n'
        before = before.replace("validation = 2\n", f"validation = 2\ntrain_sessions = {trained}\n")
    before = before.replace("resolution_mm = 8.0\n", f"resolution_mm = 8.0\nsessions = {sessions}\n")
    return f"{before}{rest}\n[shadows]\ncount = 2\ndistilled = 1\nepochs = 1\n"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same people and targets: scanned once, and twice with the second session held back."""
    patch, root = pytest.MonkeyPatch(), tmp_path_factory.mktemp("runs")
    patch.setenv("PRIVOXEL_CACHE", str(tmp_path_factory.mktemp("cache")))
    for name, text in (("one", settings()), ("two", settings(sessions=2, trained=1))):
        (root / f"{name}.toml").write_text(text)
        assert call(patch, "run", root / f"{name}.toml", "-o", root / name, "-q", "--jobs", 1) == 0
    yield root
    patch.undo()


def results_of(folder: Path) -> Results:
    return Results.model_validate_json((folder / "results.json").read_text())


def test_the_held_back_sessions_change_nothing_of_the_audit(folders):
    one, two = results_of(folders / "one"), results_of(folders / "two")
    for first, second in zip(one.targets, two.targets, strict=True):
        measured = [one.utility.model_dump(exclude_none=True) for one in (first, second)]
        assert measured[1] == pytest.approx(measured[0], rel=1e-4)
        for a, b in zip(first.attacks, second.attacks, strict=True):
            assert b.metrics["auc"].value == pytest.approx(a.metrics["auc"].value, abs=1e-9), a.name
        assert first.other_scans == []


def test_the_attacks_were_run_again_on_the_other_scans_of_the_same_people(folders):
    (target,) = results_of(folders / "two").targets
    assert {one.name for one in target.other_scans} == {"prediction-label", "rmia"}
    scores = Archive.load(folders / "two" / "scores.npz").targets["cnn3d"]
    first, other = scores.evaluated["rmia"], scores.other_scans["rmia"]
    np.testing.assert_array_equal(first.participants, other.participants)
    np.testing.assert_array_equal(np.isnan(first.scores), np.isnan(other.scores))
    assert not np.allclose(first.scores, other.scores, equal_nan=True)


def test_the_report_has_its_section(folders):
    assert "If the adversary holds another scan" in (folders / "two" / "report.html").read_text()
    assert "If the adversary holds another scan" not in (folders / "one" / "report.html").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (settings(sessions=2, trained=2), "needs more"),
        (settings(sessions=1, trained=1), "needs more"),
    ],
)
def test_a_session_that_nobody_has_left_is_refused(monkeypatch, tmp_path, capsys, text, message):
    (tmp_path / "wrong.toml").write_text(text)
    assert call(monkeypatch, "run", tmp_path / "wrong.toml", "--dry-run") == 2
    assert message in capsys.readouterr().err


def test_other_scans_without_held_back_sessions_are_refused(monkeypatch, tmp_path, capsys):
    text = settings(sessions=2, trained=1).replace("train_sessions = 1\n", "")
    (tmp_path / "wrong.toml").write_text(text)
    assert call(monkeypatch, "run", tmp_path / "wrong.toml", "--dry-run") == 2
    assert "needs [split] train_sessions" in capsys.readouterr().err
