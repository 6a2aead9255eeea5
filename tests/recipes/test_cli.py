"""One run of the command line, end to end, on 24 simulated participants."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from privoxel.attacks import ATTACKS, CONTROLS, WHEN_NAMED, WITH_STATED_SD
from privoxel.attacks.base import needs_models
from privoxel.evaluation.archive import Archive
from privoxel.evaluation.results import SCHEMA_VERSION, Results
from privoxel.recipes import audit
from privoxel.recipes.plan import VOLUMETRIC_ONLY
from tests.recipes.commands import call

HERE = Path(__file__).parent
CONFIG = HERE / "tiny.toml"
GOLDEN = json.loads((HERE / "golden.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    patch = pytest.MonkeyPatch()
    patch.setenv("PRIVOXEL_CACHE", str(tmp_path_factory.mktemp("cache")))
    assert call(patch, "run", CONFIG, "-o", folder, "-q", "--jobs", 1) == 0
    yield folder
    patch.undo()


@pytest.fixture
def results(finished):
    return Results.model_validate_json((finished / "results.json").read_text())


def measured(results):
    """Errors of the models and AUC of every attack and control, by target."""
    return {
        target.name: {
            "members_mae": target.utility.members,
            "non_members_mae": target.utility.non_members,
            "null_mae": target.utility.null,
            **{f"auc/{attack.name}": attack.metrics["auc"].value for attack in target.attacks},
            **{f"auc/{control.name}": control.metrics["auc"].value for control in target.controls},
        }
        for target in results.targets
    }


def test_numbers_are_the_golden_ones(results):
    """Those that hold on any machine; what a network of thousands of steps says of six scans does not."""
    found = measured(results)
    assert found.keys() == GOLDEN.keys()
    for target, numbers in GOLDEN.items():
        assert {name: found[target][name] for name in numbers} == pytest.approx(numbers, rel=1e-3), target


def test_the_run_folder_holds_what_was_promised(finished):
    promised = ("manifest.json", "config.toml", "results.json", "results.tsv", "report.html", "scores.npz")
    for name in (*promised, "participants_risk.tsv", "participants_risk.json"):
        assert (finished / name).stat().st_size > 0
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["complete"]
    assert {"versions", "machine", "settings"} <= manifest.keys()
    assert not (finished / "state").exists()
    assert sorted(p.name for p in (finished / "snapshots" / "cnn3d").iterdir()) == [
        "epoch-0001.safetensors",
        "epoch-0002.safetensors",
    ]
    assert (finished / "logs" / "run.log").read_text().count("Target") == 4


def test_every_attack_and_control_is_reported(results):
    volumetric, slices = results.targets
    alone = [name for name, attack in ATTACKS.items() if not needs_models(attack)]
    assert [attack.name for attack in volumetric.attacks] == alone
    assert {attack.name for attack in slices.attacks} == set(alone) - VOLUMETRIC_ONLY
    for target in results.targets:
        assert {c.name for c in target.controls} == {
            "covariates_only",
            "covariates_best",
            "null_pseudo_members",
            "null_target:prediction-label",
        }


def test_everyone_judged_is_in_the_table_for_the_owner_and_nobody_in_what_is_shown(finished, results):
    table = pd.read_csv(finished / "participants_risk.tsv", sep="\t")
    assert len(table) == 2 * (9 + 9)
    assert table.participant_id.nunique() == 18
    assert (finished / "participants_risk.tsv").stat().st_mode & 0o077 == 0
    assert [summary.model for summary in results.risk] == ["cnn3d", "slice-mean"]
    assert all("too few" in summary.reason for summary in results.risk)  # 3 + 3 are evaluated


def test_the_best_attack_is_corrected_for_the_choice(results):
    for best, target in zip(results.best, results.targets, strict=True):
        assert best.candidates == len(target.attacks)
        chosen = next(attack for attack in target.attacks if attack.name == best.name)
        assert best.auc.value == pytest.approx(chosen.metrics["auc"].value)
        assert best.auc.low <= chosen.metrics["auc"].low
        assert best.auc.high >= chosen.metrics["auc"].high


def test_published_values_stand_beside_the_measured_ones(results):
    papers = {a.name: a.metrics["balanced_accuracy"].paper for a in results.targets[0].attacks}
    assert papers["prediction-label"] == 0.7645
    assert papers["abs-error"] is None


def test_the_table_holds_every_estimate(finished, results):
    table = pd.read_csv(finished / "results.tsv", sep="\t")
    rows = sum(len(a.metrics) for t in results.targets for a in (*t.attacks, *t.controls))
    rows += sum(len(loss.bounds) for t in results.targets for loss in t.epsilon)
    assert len(table) == rows


def test_scores_belong_to_the_reported_numbers(finished, results):
    archive = Archive.load(finished / "scores.npz")
    scores = archive.targets["cnn3d"]
    error = np.abs(scores.prediction - scores.age)
    assert error[scores.members].mean() == pytest.approx(results.targets[0].utility.members, rel=1e-5)
    assert archive.slices.shape[:2] == (4, 3)


def test_no_participant_is_named_in_what_may_be_shared(finished):
    for name in ("manifest.json", "results.json", "results.tsv", "report.html", "logs/run.log"):
        text = (finished / name).read_text()
        assert "sub-00" not in text
        assert '"0007"' not in text


def test_worker_processes_change_no_number(monkeypatch, finished, tmp_path, results):
    assert call(monkeypatch, "run", CONFIG, "-o", tmp_path / "two", "-q", "--jobs", 2) == 0
    again = Results.model_validate_json((tmp_path / "two" / "results.json").read_text())
    assert measured(again) == measured(results)


def test_a_finished_run_is_found_again(monkeypatch, finished, capsys):
    before = (finished / "results.json").read_bytes()
    assert call(monkeypatch, "run", CONFIG, "-o", finished, "--resume", "--json") == 0
    assert json.loads(capsys.readouterr().out)["schema_version"] == SCHEMA_VERSION
    assert (finished / "results.json").read_bytes() == before


def test_other_settings_in_the_same_folder_are_refused(monkeypatch, finished, capsys):
    assert call(monkeypatch, "run", CONFIG, "-o", finished, "--resume", "--seed", "4") == 2
    assert "config.seed: the folder has 3, now 4" in capsys.readouterr().err


def test_the_report_can_be_written_again(monkeypatch, finished, tmp_path):
    assert call(monkeypatch, "report", finished, "-o", tmp_path / "again.html") == 0
    assert (tmp_path / "again.html").read_text() == (finished / "report.html").read_text()


def test_a_killed_run_continues_to_the_same_numbers(finished, tmp_path, results):
    """SIGKILL as the attacks on the first target begin, and again in the signals of the second model."""
    folder = tmp_path / "killed"
    arguments = ["run", str(CONFIG), "-o", str(folder), "-q", "--jobs", "1"]
    killer = (
        "import os, signal, sys, privoxel.recipes.judging as j, privoxel.recipes.target as t\n"
        "die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "original = t.extract\n"
        "def dying(*a, **k):\n"
        "    return die() if 'slice' in str(k['folder']) else original(*a, **k)\n"
        "if '--resume' in sys.argv: t.extract = dying\n"
        "else: j.run_attacks = die\n"
        "from privoxel.cli import main\n"
        "main()\n"
    )
    for attempt in (arguments, [*arguments, "--resume"]):
        command = [sys.executable, "-c", killer, *attempt]
        assert subprocess.run(command, capture_output=True, check=False).returncode == -9  # noqa: S603
        assert (folder / "state").exists()
    command = [sys.executable, "-m", "privoxel", *arguments, "--resume"]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    again = Results.model_validate_json((folder / "results.json").read_text())
    assert measured(again) == measured(results)


def test_a_dry_run_writes_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "run", CONFIG, "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["targets"][0] == "cnn3d: 9 participants"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "missing.toml"], "readable TOML or YAML"),
        (["run"], "Missing argument"),
        (["run", CONFIG, "--cohort", "."], "needs no --cohort"),
        (["report", "."], "results.json of a finished run"),
        (["cohort", "check", "missing"], "missing"),
        (["brew"], "No such command"),
        (["run", CONFIG, "--resume"], "--resume needs the --output"),
        (["run", CONFIG, "-o", CONFIG], "needs to be a folder, got a file"),
    ],
)
def test_expected_errors_exit_2_without_a_traceback(monkeypatch, tmp_path, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_leak_above_the_gate_exits_1(monkeypatch, finished):
    def leaking(*_):
        found = Results.model_validate_json((finished / "results.json").read_text())
        auc = found.targets[0].attacks[0].metrics["auc"]
        auc = auc.model_copy(update={"value": 0.9, "low": 0.85, "high": 0.95})
        shown = {"auc": auc, "outcome": "leak shown"}
        return found.model_copy(update={"verdict": found.verdict.model_copy(update=shown)}), finished

    monkeypatch.setattr(audit, "run_audit", lambda *_: audit.Outcome(*leaking()))
    assert call(monkeypatch, "run", CONFIG, "-o", finished, "--fail-above", "0.8") == 1
    assert call(monkeypatch, "run", CONFIG, "-o", finished, "--fail-above", "0.86") == 0


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        (
            {"outcome": "refused", "auc": SimpleNamespace(low=0.4), "reasons": ["it fails"]},
            "a refusal: it fails",
        ),
        ({"outcome": "inconclusive", "auc": SimpleNamespace(low=None)}, "an interval of the primary"),
        ({"outcome": "inconclusive", "auc": None}, "an interval of the primary"),
    ],
    ids=["refused", "no interval", "no AUC"],
)
def test_a_run_passes_no_gate_without_a_verdict(monkeypatch, tmp_path, capsys, verdict, message):
    results = SimpleNamespace(verdict=SimpleNamespace(**verdict), model_dump_json=lambda **_: "{}")
    monkeypatch.setattr(audit, "run_audit", lambda *_: audit.Outcome(results, tmp_path))
    assert call(monkeypatch, "run", CONFIG, "-o", tmp_path / "run", "--json", "--fail-above", "0.9") == 2
    assert message in capsys.readouterr().err


def test_version_and_help(monkeypatch, capsys):
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith("privoxel ")
    assert call(monkeypatch, "--help") == 0
    assert "demo" in capsys.readouterr().out


def test_attacks_are_listed_for_people_and_machines(monkeypatch, capsys):
    assert call(monkeypatch, "attacks", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    found = {row["name"]: row for row in listed}
    assert set(found) >= {*ATTACKS, *WHEN_NAMED, *WITH_STATED_SD, *CONTROLS}
    assert found["glir"]["needs"] == ["leaked participants", "2 snapshots or more", "plain SGD"]
    assert not found["glir"]["in_all"]
    assert "gradient:conv6" in found["stacked"]["optional_signals"]
    assert call(monkeypatch, "attacks", "list") == 0
    said = capsys.readouterr().out
    assert "prediction-label" in said
    assert "stability-noise" in said


def test_a_simulated_derivative_is_written_checked_and_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PRIVOXEL_CACHE", os.environ.get("PRIVOXEL_CACHE", str(tmp_path / "cache")))
    folder = tmp_path / "bids"
    wanted = ("--subjects", 12, "--resolution", 8, "--seed", 7)
    assert call(monkeypatch, "cohort", "simulate", "-o", folder, *wanted) == 0
    assert call(monkeypatch, "cohort", "check", folder, "--resolution", 8) == 0
    assert "12 participants" in capsys.readouterr().out
    settings = CONFIG.read_text().replace("participants = 24\n", 'kind = "real"\n')
    settings = settings.replace("members = 9", "members = 5").replace("others = 4", "others = 0")
    (tmp_path / "real.toml").write_text(settings.replace("validation = 2", "validation = 0"))
    assert (
        call(monkeypatch, "run", tmp_path / "real.toml", "--cohort", folder, "-o", tmp_path / "run", "-q")
        == 0
    )
    found = Results.model_validate_json((tmp_path / "run" / "results.json").read_text())
    assert not found.cohort.is_simulated
    assert found.targets[0].n_members == 5
    assert Archive.load(tmp_path / "run" / "scores.npz").slices is None
