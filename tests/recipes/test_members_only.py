"""Members without non-members: what the owner gets, what may be shown, and no verdict."""

import csv
import json
import stat

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import Ridge

from privoxel.errors import CohortError, ConfigError
from privoxel.recipes.brought_settings import BroughtAudit
from privoxel.recipes.doors import audit_given, check_given
from privoxel.recipes.given import Given
from tests.niftis import write_lines
from tests.recipes.commands import call
from tests.recipes.test_doors import write_scans

HEADER = "participant_id\tage\tpredicted_age\tmember"


def write_members(path, people=60, odd=25.0):
    """Write predictions of members alone; ``sub-07`` is ``odd`` years off."""
    rng = np.random.default_rng(0)
    ages, errors = rng.uniform(45, 80, people), rng.normal(0, 3, people)
    errors[7] += odd
    lines = [
        f"sub-{k:02d}\t{age:.2f}\t{age + error:.2f}\t1"
        for k, (age, error) in enumerate(zip(ages, errors, strict=True))
    ]
    return write_lines(path, HEADER, *lines)


def test_members_alone_are_explained_and_offered_scan_and_checks(monkeypatch, tmp_path, capsys):
    table = write_members(tmp_path / "p.tsv")
    assert call(monkeypatch, "audit", table, "-o", tmp_path / "run", "-q") == 2
    error = capsys.readouterr().err
    assert "needs people whom the model was not trained on" in error
    assert "--members-only" in error
    assert "privoxel scan" in error
    assert not (tmp_path / "run").exists()


def test_members_alone_are_checked_without_a_verdict(monkeypatch, tmp_path, capsys):
    table, run = write_members(tmp_path / "p.tsv"), tmp_path / "run"
    assert call(monkeypatch, "audit", table, "-o", run, "-q", "--members-only", "--stated-mae", 4.0) == 0
    said = capsys.readouterr().out
    assert said.startswith("No verdict")
    assert "privoxel scan MODEL" in " ".join(said.split())
    assert "Stated on unseen people: 4.00 years" in said
    assert max(map(len, (run / "difficulty.txt").read_text().splitlines())) <= 80
    with (run / "participants_difficulty.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert len(rows) == 60
    assert [row["participant_id"] for row in rows if "hard" in row["remark"]] == ["sub-07"]
    assert set(json.loads((run / "participants_difficulty.json").read_text())) == set(rows[0])
    mode = (run / "participants_difficulty.tsv").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    summary = json.loads((run / "difficulty.json").read_text())
    assert summary["verdict"] is None
    assert sum(band["size"] for band in summary["by_age"]) == 60
    assert all(band["size"] >= 5 for band in summary["by_age"])
    assert summary["hard"] == {"fewer_than": 5, "by_chance": pytest.approx(0.0027, abs=1e-4)}
    for name in ("difficulty.json", "difficulty.txt"):
        text = (run / name).read_text()
        assert "auc" not in text.lower()
        assert "sub-" not in text
        assert text.strip() == (
            text.strip() if name.endswith("json") else said.split("A line a member")[0].strip()
        )


def test_a_model_is_asked_about_its_members_alone(monkeypatch, tmp_path, capsys):
    rng = np.random.default_rng(1)
    rows, ages = rng.normal(size=(40, 2)), rng.uniform(50, 70, 40)
    model = Ridge().fit(rows[:30], ages[:30])
    skops.io.dump(model, tmp_path / "m.skops")
    lines = [
        f"sub-{k:02d},{ages[k]:.2f},{rows[k, 0]:.4f},{rows[k, 1]:.4f},{'1' if k < 30 else 'n/a'}"
        for k in range(40)
    ]
    table = write_lines(tmp_path / "v.csv", "participant_id,age,a,b,member", *lines)
    arguments = ("audit", tmp_path / "m.skops", "--cohort", table, "-q")
    assert call(monkeypatch, *arguments, "-o", tmp_path / "no") == 2
    assert "--members-only" in capsys.readouterr().err
    assert call(monkeypatch, *arguments, "-o", tmp_path / "run", "--members-only", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["n_members"] == 30
    expected = np.abs(model.predict(rows[:30]) - ages[:30]).mean()
    assert summary["mae"]["value"] == pytest.approx(expected, abs=0.02)


def test_a_network_is_run_on_its_members_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("PRIVOXEL_CACHE", str(tmp_path / "cache"))
    folder = write_scans(tmp_path / "bids")
    ids = write_lines(tmp_path / "ids.txt", *(f"sub-{k:02d}" for k in range(24)))
    given = Given("tests.brought_networks:factory", folder, ids, resolution=10.0, members_only=True)
    checked = check_given(given, tmp_path / "run", BroughtAudit())
    assert checked.summary["n_members"] == 24


def test_non_members_beside_members_are_left_aside(tmp_path):
    table = write_members(tmp_path / "p.tsv")
    table.write_text(table.read_text() + "".join(f"sub-x{k}\t60\t90\t0\n" for k in range(20)))
    checked = check_given(Given(str(table), members_only=True), tmp_path / "run", BroughtAudit())
    assert checked.summary["n_members"] == 60


@pytest.mark.parametrize("column", ["none", "wrong"])
def test_a_list_says_who_of_a_table_of_predictions_is_a_member(monkeypatch, tmp_path, capsys, column):
    lines = write_members(tmp_path / "p.tsv").read_text().splitlines()
    cut = [line.rsplit("\t", 1)[0] for line in lines]
    wrong = [cut[0] + "\tmember", *(f"{line}\t0" for line in cut[1:])]
    table = write_lines(tmp_path / "q.tsv", *(cut if column == "none" else wrong))
    ids = write_lines(tmp_path / "ids.txt", *(f"sub-{k:02d}" for k in range(30)))
    arguments = ("audit", table, "--members", ids, "--members-only", "-q", "--json")
    assert call(monkeypatch, *arguments, "-o", tmp_path / "run") == 0
    summary = json.loads(capsys.readouterr().out)
    errors = [float(predicted) - float(age) for _, age, predicted in (line.split("\t") for line in cut[1:31])]
    assert summary["n_members"] == 30
    assert summary["mae"]["value"] == pytest.approx(np.abs(errors).mean(), abs=0.02)


def test_a_list_of_everybody_needs_nobody_else(tmp_path):
    table = write_members(tmp_path / "p.tsv")
    ids = write_lines(tmp_path / "ids.txt", *(f"sub-{k:02d}" for k in range(60)))
    with pytest.raises(CohortError, match="needs people whom the model was not trained on"):
        audit_given(Given(str(table), members=ids), tmp_path / "no", BroughtAudit())
    checked = check_given(Given(str(table), members=ids, members_only=True), tmp_path / "run", BroughtAudit())
    assert checked.summary["n_members"] == 60


def test_too_few_members_and_idle_options_are_refused(monkeypatch, tmp_path, capsys):
    table = write_members(tmp_path / "p.tsv", people=19)
    with pytest.raises(ConfigError, match="needs 20 of them, got 19"):
        check_given(Given(str(table), members_only=True), tmp_path / "run", BroughtAudit())
    arguments = ("audit", table, "-q", "--members-only", "--fail-above", 0.6, "--match", "age")
    assert call(monkeypatch, *arguments) == 2
    assert "got --fail-above, --match" in capsys.readouterr().err
