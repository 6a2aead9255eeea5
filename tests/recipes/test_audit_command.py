"""The command ``privoxel audit`` from a table to the run folder, and what it refuses."""

import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from privoxel import cli
from privoxel.attacks import WHEN_NAMED
from privoxel.errors import ConfigError, ProblemsError
from privoxel.evaluation.archive import Archive
from privoxel.evaluation.results import PRECISION, Results
from privoxel.recipes.predictions import (
    PredictionAudit,
    audit_predictions,
    black_box_attacks,
    open_predictions,
)
from tests.predictions import write_lines, write_predictions, write_with_references

QUICK = PredictionAudit(primary="abs-error", attacks=("abs-error", "centred-error"))


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["privoxel", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    table = write_predictions(folder / "p.tsv", gap=1.5, more=("sex", "site", "sd"))
    patch = pytest.MonkeyPatch()
    assert call(patch, "audit", table, "-o", folder / "run", "-q", "--jobs", 1) == 0
    patch.undo()
    return folder


@pytest.fixture
def results(finished):
    return Results.model_validate_json((finished / "run" / "results.json").read_text())


def test_every_black_box_attack_and_all_controls_are_reported(results):
    (target,) = results.targets
    assert [attack.name for attack in target.attacks] == list(black_box_attacks(stated_sd=True))
    assert "stated-likelihood" in {attack.name for attack in target.attacks}
    assert {control.name for control in target.controls} == {
        "covariates_only",
        "covariates_best",
        "null_pseudo_members",
    }
    assert results.verdict.outcome == "leak shown"
    assert results.verdict.primary_attack == "default-black-box"
    assert {row.name: row.metrics for row in results.summary} == {
        one.name: one.metrics for one in (*target.attacks, *target.controls)
    }


def test_the_run_folder_holds_what_was_promised(finished):
    run = finished / "run"
    names = ("manifest.json", "config.toml", "results.json", "results.tsv", "report.html", "scores.npz")
    assert all((run / name).stat().st_size > 0 for name in names)
    assert json.loads((run / "manifest.json").read_text())["complete"]
    assert not (run / "state").exists()
    assert json.loads((run / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    risk = pd.read_csv(run / "participants_risk.tsv", sep="\t")
    assert len(risk) == 200
    assert set(risk.columns) <= set(json.loads((run / "participants_risk.json").read_text()))
    for name in ("manifest.json", "results.json", "results.tsv", "report.html", "logs/run.log"):
        assert "sub-0" not in (run / name).read_text()
    assert "epochs" not in (run / "config.toml").read_text()


def test_scores_by_participant_are_for_the_owner_alone(finished, results):
    path = finished / "run" / "participants_scores.tsv"
    table = pd.read_csv(path, sep="\t")
    sidecar = json.loads((finished / "run" / "participants_scores.json").read_text())
    assert set(table.columns) == set(sidecar)
    assert path.stat().st_mode & 0o077 == 0
    assert len(table) == 200
    given = pd.read_csv(finished / "p.tsv", sep="\t").set_index("participant_id")
    own = table.set_index("participant_id").loc[given.index]
    assert (own["member"] == given["member"]).all()
    np.testing.assert_allclose(own["error"], given["predicted_age"] - given["age"], atol=1e-3)
    np.testing.assert_allclose(own["abs-error"], -own["error"].abs(), atol=1e-3)


def test_utility_and_differences_are_those_of_the_table(finished, results):
    given = pd.read_csv(finished / "p.tsv", sep="\t")
    error = (given["predicted_age"] - given["age"]).abs()
    (target,) = results.targets
    assert target.utility.members == pytest.approx(error[given["member"] == 1].mean(), rel=1e-4)
    groups = [given["age"][given["member"] == state] for state in (1, 0)]
    spread = np.sqrt((groups[0].var() + groups[1].var()) / 2)
    differences = target.design["standardised_differences"]
    assert differences["age"] == pytest.approx((groups[0].mean() - groups[1].mean()) / spread, abs=1e-3)
    assert set(differences) == {"age", "sex", "site"}
    archive = Archive.load(finished / "run" / "scores.npz")
    assert set(archive.targets) == {"predictions"}


def test_the_report_speaks_of_no_voxels(finished):
    page = (finished / "run" / "report.html").read_text()
    assert "Standardised differences: age" in page
    assert "voxels of" not in page


def test_reference_columns_bring_the_attacks_that_know_how_hard_a_person_is(tmp_path):
    table = write_with_references(tmp_path / "p.tsv")
    names = ("abs-error", "rmia", "difficulty", "reference-tube", "rmia-student", "informia-student")
    options = PredictionAudit(primary="abs-error", attacks=names)
    results = audit_predictions(table, tmp_path / "run", options).results
    area = {attack.name: attack.metrics["auc"] for attack in results.targets[0].attacks}
    assert set(area) == set(names)
    for name in names[1:4]:
        assert area[name].value > area["abs-error"].value + 0.02
    assert area["informia-student"].value == pytest.approx(area["rmia-student"].value)


def test_attacks_on_references_need_the_columns_and_as_many_models_as_everyone_has(tmp_path):
    assert "rmia" not in black_box_attacks()
    two = black_box_attacks(references=2)
    assert {"rmia", "reference-tube", "attack-r"} <= set(two)
    assert not {"lira-online", "distilled-rmia", "shadow-prediction-label"} & set(two)
    assert set(black_box_attacks(references=2, among=WHEN_NAMED)) == {"informia-student"}
    assert not black_box_attacks(among=WHEN_NAMED)
    table = write_with_references(tmp_path / "p.tsv", models=1, people=10)
    with pytest.raises(ProblemsError, match="has no answer of a reference model"):
        open_predictions(table, QUICK)


def test_a_second_run_resumes_or_is_refused(monkeypatch, finished, capsys):
    table, run = finished / "p.tsv", finished / "run"
    assert call(monkeypatch, "audit", table, "-o", run, "-q") == 2
    assert "--resume" in capsys.readouterr().err
    assert call(monkeypatch, "audit", table, "-o", run, "-q", "--resume") == 0
    assert call(monkeypatch, "audit", table, "-o", run, "-q", "--resume", "--seed", 5) == 2
    assert "seed" in capsys.readouterr().err


def test_what_it_prints_fits_80_columns(monkeypatch, finished, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(finished)
    call(monkeypatch, "audit", "p.tsv", "-o", "run", "-q", "--resume")
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert not any("…" in line or "paper" in line for line in lines)
    assert any(line.strip().startswith("default-black-box *") for line in lines)


@pytest.mark.parametrize(("limit", "code"), [(0.55, 1), (0.99, 0)])
def test_the_gate_is_the_exit_code(monkeypatch, finished, limit, code):
    table, run = finished / "p.tsv", finished / "run"
    assert call(monkeypatch, "audit", table, "-o", run, "-q", "--resume", "--fail-above", limit) == code


def test_where_the_groups_differ_in_age_the_verdict_is_the_excess(tmp_path):
    table = write_predictions(tmp_path / "p.tsv", shift=9.0, gap=2.0, members=150, non_members=160)
    outcome = audit_predictions(table, tmp_path / "run", QUICK)
    verdict = outcome.results.verdict
    assert verdict.outcome == "inconclusive" or "the excess over them counts" in verdict.sentence
    assert any("--match age,sex,site" in reason for reason in verdict.reasons)
    control = outcome.results.targets[0].controls[0].metrics["auc"]
    assert control.low > 0.5


def test_matched_pairs_take_the_difference_in_age_away(tmp_path):
    table = write_predictions(tmp_path / "p.tsv", shift=9.0, gap=2.0, members=150, non_members=160)
    options = PredictionAudit(primary="abs-error", attacks=("abs-error",), match=("age",))
    results = audit_predictions(table, tmp_path / "run", options).results
    (target,) = results.targets
    before, after = (
        target.design[key]["age"] for key in ("differences_before_matching", "standardised_differences")
    )
    assert before > 0.5
    assert abs(after) < 0.05
    assert target.n_members == target.n_non_members
    assert target.design["without_a_partner"] == 310 - 2 * target.n_members
    assert target.controls[0].metrics["auc"].low < 0.5
    assert not any("--match" in reason for reason in results.verdict.reasons)


def test_a_model_that_does_not_work_gets_no_verdict_and_passes_no_gate(monkeypatch, tmp_path, capsys):
    rng = np.random.default_rng(0)
    lines = [f"sub-{k}\t{rng.uniform(45, 80):.1f}\t62.5\t{k % 2}" for k in range(60)]
    table = write_lines(tmp_path / "p.tsv", lines)
    assert call(monkeypatch, "audit", table, "-o", tmp_path / "r", "-q", "--primary", "abs-error") == 0
    assert "No verdict is given" in capsys.readouterr().out
    again = ("audit", table, "-o", tmp_path / "r", "-q", "--primary", "abs-error", "--resume")
    assert call(monkeypatch, *again, "--fail-above", 0.9) == 2
    assert "--fail-above needs a verdict, got a refusal" in capsys.readouterr().err


def test_a_stated_error_far_from_the_measured_one_is_refused(tmp_path):
    table = write_predictions(tmp_path / "p.tsv")
    options = PredictionAudit(primary="abs-error", attacks=("abs-error",), stated_mae=1.0)
    assert audit_predictions(table, tmp_path / "run", options).results.verdict.outcome == "refused"


def test_a_centred_form_is_run_where_it_is_named(tmp_path):
    table = write_predictions(tmp_path / "p.tsv")
    names = ("abs-error", "centred-abs-error", "centred-error", "tube-centred-population")
    options = PredictionAudit(primary="abs-error", attacks=names)
    (target,) = audit_predictions(table, tmp_path / "run", options).results.targets
    auc = {attack.name: attack.metrics["auc"].value for attack in target.attacks}
    assert set(auc) == set(names)
    assert auc["centred-abs-error"] == pytest.approx(auc["centred-error"], abs=1e-6)


def test_precision_is_stated_at_the_prevalences_asked_for(tmp_path):
    table = write_predictions(tmp_path / "p.tsv")
    options = PredictionAudit(primary="abs-error", attacks=("abs-error",), prevalences=(0.3, 0.02))
    (target,) = audit_predictions(table, tmp_path / "run", options).results.targets
    stated = [name for name in target.attacks[0].metrics if name.startswith(PRECISION)]
    assert stated == [f"{PRECISION}0.3", f"{PRECISION}0.02"]


def test_excluded_and_faulty_lines_are_counted(tmp_path):
    table = write_predictions(tmp_path / "p.tsv")
    table.write_text(table.read_text() + "sub-x\t60\t61\tn/a\nsub-y\tn/a\t61\t1\n")
    options = PredictionAudit(primary="abs-error", attacks=("abs-error",), skip_bad=True)
    results = audit_predictions(table, tmp_path / "run", options).results
    assert results.targets[0].n_excluded == 1
    assert results.cohort.participants == 200
    assert results.cohort.skipped[0].endswith("has no age. Give it in years")
    assert "sub-y" not in results.cohort.skipped[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--primary", "lira"), "needs attacks on predictions alone, got lira"),
        (("--prevalence", "1.5"), "needs prevalences between 0 and 1, got 1.5"),
        (("--match", "scanner"), "--match needs a list of age, sex, site"),
        (("--match", "site"), "needs a column 'site' with values"),
        (("--match", "age", "--caliper", "0"), "Matching left"),
        (("--resume",), "--resume needs the --output folder"),
    ],
)
def test_wrong_use_is_answered_with_what_to_do(monkeypatch, tmp_path, capsys, arguments, message):
    table = write_predictions(tmp_path / "p.tsv", members=20, non_members=20)
    assert call(monkeypatch, "audit", table, "-q", *arguments) == 2
    assert message in capsys.readouterr().err


def described(table):
    """Return the people of a table by membership, as a run folder of it tells of them."""
    frame = pd.read_csv(table, sep="\t", dtype=str)
    return {state: frame.participant_id[frame.member == state].tolist() for state in ("0", "1")}


@pytest.mark.parametrize("column", ["none", "wrong"])
def test_lists_say_who_is_a_member_of_a_table_of_predictions(tmp_path, column):
    table = write_predictions(tmp_path / "p.tsv", members=30, non_members=40)
    groups = described(table)
    plain = audit_predictions(table, tmp_path / "plain", QUICK).results.targets[0]
    frame = pd.read_csv(table, sep="\t", dtype=str)
    frame["member"] = "perhaps"
    frame = frame.drop(columns="member") if column == "none" else frame
    frame.to_csv(tmp_path / "q.tsv", sep="\t", index=False)
    lists = {state: tmp_path / f"{state}.txt" for state in groups}
    for state, path in lists.items():
        path.write_text("\n".join(groups[state]))
    found = audit_predictions(
        tmp_path / "q.tsv", tmp_path / "run", QUICK, members=lists["1"], non_members=lists["0"]
    ).results.targets[0]
    assert (found.n_members, found.n_non_members) == (30, 40)
    assert "column 'member' of the table was not read" in found.design["groups"]
    assert found.attacks[0].metrics["auc"].value == plain.attacks[0].metrics["auc"].value


def test_lists_beside_predictions_are_checked_like_any_others(monkeypatch, tmp_path, capsys):
    table = write_predictions(tmp_path / "p.tsv", members=20, non_members=20)
    (tmp_path / "m.txt").write_text("sub-0001\nsub-9999\n")
    assert call(monkeypatch, "audit", table, "-q", "--members", tmp_path / "m.txt") == 2
    assert "names sub-9999, who is not in the cohort" in capsys.readouterr().err
    assert call(monkeypatch, "audit", table, "-q", "--non-members", tmp_path / "m.txt") == 2
    assert "Non-members need members beside them" in capsys.readouterr().err
    frame = pd.read_csv(table, sep="\t", dtype=str)
    frame.loc[3, "age"] = "old"
    frame.to_csv(table, sep="\t", index=False)
    assert call(monkeypatch, "audit", table, "-q", "--members", tmp_path / "m.txt") == 2
    error = capsys.readouterr().err
    assert "has an age that is text" in error
    assert "names sub-9999" in error


def test_too_few_people_are_refused_before_a_folder_is_made(monkeypatch, tmp_path, capsys):
    table = write_predictions(tmp_path / "p.tsv", members=5, non_members=9)
    assert call(monkeypatch, "audit", table, "-o", tmp_path / "run", "-q") == 2
    assert "needs at least 8 members" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def dull_table(path, case):
    """Write a table that gives classifiers little to go by."""
    if case == "smallest":
        return write_predictions(path, members=8, non_members=8)
    ages = ["60"] * 40 if case == "one age" else [f"{50 + k % 20}" for k in range(40)]
    return write_lines(path, [f"sub-{k}\t{age}\t{age}\t{k % 2}" for k, age in enumerate(ages)])


@pytest.mark.parametrize("case", ["smallest", "one age", "no error"])
def test_every_attack_copes_with_tables_that_say_little(tmp_path, case):
    outcome = audit_predictions(dull_table(tmp_path / "p.tsv", case), tmp_path / "run", PredictionAudit())
    assert len(outcome.results.targets[0].attacks) == len(black_box_attacks())
    assert outcome.report.exists()


def two_sessions(path, *, people=80, last=80):
    """Write two scans of the first ``last`` people of each group, who are of the same ages.

    The model knows members by the first one.
    """
    rng = np.random.default_rng(5)
    ages, lines = rng.uniform(45, 80, people), []
    for number in range(2 * people):
        member = number < people
        age = ages[number % people]
        for session, spread in (("a", 4 / (1 + 3 * member)), ("b", 4 / (1 + 0.5 * member))):
            if session == "a" or number % people < last:
                cells = (f"sub-{number:03d}", f"{age:.2f}", f"{age + rng.normal(0, spread):.3f}")
                lines.append("\t".join([*cells, str(int(member)), session]))
    return write_lines(path, lines, header=("participant_id", "age", "predicted_age", "member", "session"))


def test_how_much_survives_with_a_second_session_that_trained_nothing(tmp_path):
    table = two_sessions(tmp_path / "two.tsv")
    options = replace(QUICK, train_sessions=1)
    results = audit_predictions(table, tmp_path / "run", options).results
    (target,) = results.targets
    (other,) = target.other_scans
    assert other.name == "abs-error"
    assert other.trained_on.value > other.other_scan.value + 0.1
    assert 0.0 < other.share.value < 0.9
    assert results.config["predictions"]["train_sessions"] == 1
    scores = pd.read_csv(tmp_path / "run" / "participants_scores.tsv", sep="\t")
    assert set(scores["session"]) == {"a"}


def test_reference_columns_serve_on_the_other_sessions_too(tmp_path):
    header, *lines = two_sessions(tmp_path / "two.tsv").read_text().splitlines()
    rng = np.random.default_rng(2)
    answers = (f"{float(line.split()[1]) + rng.normal(0, 4):.3f}" for line in lines)
    told = ["\t".join(pair) for pair in zip(lines, answers, strict=True)]
    table = write_lines(tmp_path / "told.tsv", told, header=(*header.split(), "reference_1"))
    options = PredictionAudit(primary="rmia", attacks=("rmia",), train_sessions=1)
    (target,) = audit_predictions(table, tmp_path / "run", options).results.targets
    assert [other.name for other in target.other_scans] == ["rmia"]


def test_second_sessions_that_nobody_has_are_missed(tmp_path):
    table = two_sessions(tmp_path / "two.tsv", people=20, last=1)
    with pytest.raises(ConfigError, match="more than 1 sessions, got 1 and 1"):
        audit_predictions(table, tmp_path / "run", replace(QUICK, train_sessions=1))


def test_epsilon_is_bounded_and_in_one_run_only_by_coins(tmp_path):
    table = write_predictions(tmp_path / "p.tsv", gap=3.0)
    audits = {"plain": QUICK, "coins": replace(QUICK, coin=True)}
    plain, tossed = (
        audit_predictions(table, tmp_path / name, options).results.targets[0].epsilon[0]
        for name, options in audits.items()
    )
    assert plain.upper is None
    assert plain.lower > 0.0
    assert (len(plain.bounds), len(tossed.bounds)) == (2, 4)
    with pytest.raises(ConfigError, match="Drop one of them"):
        audit_predictions(table, tmp_path / "both", replace(QUICK, coin=True, match=("age",)))


def test_people_known_not_to_be_members_are_a_background_and_are_not_judged(tmp_path, monkeypatch):
    table = write_predictions(tmp_path / "p.tsv", members=40, non_members=70)
    people = [f"{number:04d}" for number in range(90, 110)]
    (tmp_path / "known.txt").write_text("\n".join(people))
    options = replace(QUICK, attacks=("abs-error", "population"), population=tuple(people))
    (target,) = audit_predictions(table, tmp_path / "run", options).results.targets
    assert (target.n_members, target.n_non_members, target.n_excluded) == (40, 50, 20)
    assert target.design["participants"] == {"population": 20}
    scores = pd.read_csv(tmp_path / "run" / "participants_scores.tsv", sep="\t")
    rank = scores["population"].to_numpy() * 20  # ranks among these 20, not among the leaked
    np.testing.assert_allclose(rank, np.round(rank), atol=1e-3)
    assert not scores["participant_id"].isin([f"sub-{name}" for name in people]).any()
    command = ("audit", table, "--population", tmp_path / "known.txt", "-o", tmp_path / "cli", "-q")
    assert call(monkeypatch, *command, "--primary", "abs-error", "--jobs", 1) == 0


def test_a_population_that_was_trained_on_is_refused(tmp_path):
    table = write_predictions(tmp_path / "p.tsv", members=40, non_members=40)
    with pytest.raises(ConfigError, match="who were not trained on, got 2 others"):
        audit_predictions(table, tmp_path / "run", replace(QUICK, population=("0003", "nobody", "0050")))
