"""Which sessions count as trained on: told by number or by name, whatever the order of lines."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from privoxel import cli
from privoxel.errors import ConfigError
from privoxel.evaluation.results import SessionCount
from privoxel.recipes.assemble import session_counts
from privoxel.recipes.predictions import PredictionAudit, audit_predictions
from tests.predictions import write_lines

QUICK = PredictionAudit(primary="abs-error", attacks=("abs-error",))
HEADER = ("participant_id", "age", "predicted_age", "member", "session")


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["privoxel", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def leaking(path, *, labels=("2", "10"), turned=False, people=80, lacking=0):
    """Write two sessions of everybody; members trained the model with the first of ``labels``.

    ``turned``: the line of the other session comes first; ``lacking`` of either class have that alone.
    """
    rng = np.random.default_rng(3)
    lines = []
    for number in range(2 * people):
        member, age = number < people, rng.uniform(45, 80)
        own = []
        for label in labels:
            error = rng.normal(0, 1 if member and label == labels[0] else 5)
            cells = (f"{number:03d}", f"{age:.2f}", f"{age + error:.3f}", str(int(member)), label)
            if label != labels[0] or number % people >= lacking:
                own.append("\t".join(cells))
        lines += own[::-1] if turned else own
    return write_lines(path, lines, header=HEADER)


def audited(table, folder, **options):
    return audit_predictions(table, folder, replace(QUICK, **options)).results


def auc_of(results):
    return results.targets[0].attacks[0].metrics["auc"].value


def test_the_order_of_lines_does_not_decide_which_session_was_trained_on(tmp_path):
    tables = {turned: leaking(tmp_path / f"{turned}.tsv", turned=turned) for turned in (False, True)}
    straight, turned = (
        audited(table, tmp_path / f"run-{key}", train_sessions=1) for key, table in tables.items()
    )
    assert straight.verdict.outcome == turned.verdict.outcome == "leak shown"
    assert auc_of(turned) == auc_of(straight) > 0.8
    assert turned.targets[0].trained_sessions == [SessionCount(label="2", participants=160)]
    said = "Counted as trained on: session 2 (160 people)."
    assert said in (tmp_path / "run-True" / "report.html").read_text()
    assert said in (tmp_path / "run-True" / "logs" / "run.log").read_text()


def test_words_are_ordered_by_the_alphabet_with_a_warning_and_may_be_named(tmp_path, caplog):
    table = leaking(tmp_path / "words.tsv", labels=("pre", "post"))
    guessed = audited(table, tmp_path / "guessed", train_sessions=1)
    assert [one.label for one in guessed.targets[0].trained_sessions] == ["post"]
    assert auc_of(guessed) < 0.6
    assert "They are post, pre. If that is wrong, name sessions by --trained-session" in caplog.text
    assert "the alphabet decided which come first" in guessed.targets[0].design["groups"]
    caplog.clear()
    named = audited(table, tmp_path / "named", train_sessions=("ses-pre",))
    assert [one.label for one in named.targets[0].trained_sessions] == ["pre"]
    assert auc_of(named) > 0.8
    assert "alphabet" not in caplog.text
    assert named.config["predictions"]["train_sessions"] == ["pre"]


def test_people_without_a_session_that_is_named_are_left_out(tmp_path):
    table = leaking(tmp_path / "gaps.tsv", lacking=10)
    (target,) = audited(table, tmp_path / "run", train_sessions=("2",)).targets
    assert (target.n_members, target.n_non_members, target.n_excluded) == (70, 70, 20)
    assert "20 people without a scan of the sessions that were trained on" in target.design["groups"]
    (counted,) = audited(table, tmp_path / "counted", train_sessions=1).targets
    assert {one.label: one.participants for one in counted.trained_sessions} == {"2": 140, "10": 20}


def test_the_command_names_sessions(monkeypatch, tmp_path, capsys):
    table = leaking(tmp_path / "p.tsv", labels=("pre", "post"))
    run = ("audit", table, "-q", "--primary", "abs-error", "--jobs", 1)
    assert call(monkeypatch, *run, "-o", tmp_path / "run", "--trained-session", "pre") == 0
    (target,) = json.loads((tmp_path / "run" / "results.json").read_text())["targets"]
    assert target["trained_sessions"] == [{"label": "pre", "participants": 160}]
    assert call(monkeypatch, *run, "--trained-session", "base") == 2
    assert "got none of 'base'. Name sessions that there are: 'post', 'pre'." in capsys.readouterr().err
    assert call(monkeypatch, *run, "--trained-session", "pre", "--train-sessions", 1) == 2
    assert "Drop one of them" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("wrong", [0, -1, (), (1, 2), 1.5, True])
def test_sessions_that_are_neither_a_number_nor_labels_are_refused(tmp_path, wrong):
    table = leaking(tmp_path / "p.tsv", people=20)
    with pytest.raises(ConfigError, match="needs a number from 1, or labels of sessions as text"):
        audited(table, tmp_path / "run", train_sessions=wrong)


def test_sessions_of_few_people_are_told_in_one():
    dates = {"20110203": 1, "20110204": 3, "base": 5}
    expected = [SessionCount(label="base", participants=5), SessionCount(label=None, participants=4)]
    assert session_counts(dates, 5) == expected
