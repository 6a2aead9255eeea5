"""A network of several targets, audited with the loss that it was trained with."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import privoxel
from privoxel.cohort.memberships import group_by_ids
from privoxel.config import ModelConfig, RunConfig, SignalConfig
from privoxel.errors import ModelError, ModelProblemsError, SignalError
from privoxel.models.adapted import WhiteBox
from privoxel.models.heads import Gaussian, Scalar
from privoxel.models.several import Several
from privoxel.progress import Silent
from privoxel.recipes.brought_settings import BroughtAudit
from privoxel.recipes.doors import audit_given
from privoxel.recipes.further_targets import missing_notes, target_problems
from privoxel.recipes.given import Given
from privoxel.recipes.target import TargetPlan, Workplace
from privoxel.recipes.white_box import (
    brought_white_box,
    checked_model,
    open_network,
    white_box_attacks,
)
from privoxel.signals.truths import true_values
from privoxel.store import open_run
from privoxel.training.runtime import Runtime
from tests.brought_networks import in_place, several
from tests.conftest import make_cohort
from tests.niftis import write_lines
from tests.recipes.commands import call
from tests.recipes.test_doors import write_scans

COHORT = make_cohort(40)
TIV = np.random.default_rng(3).normal(1.5, 0.15, 40)
MEMBERS = COHORT.covariates.participants[:20]
QUICK = BroughtAudit(attacks=("gradient-norm",), primary="gradient-norm", runtime=Runtime(threads=1))
DOCS = Path(__file__).parents[2] / "docs" / "models.md"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Cache volumes in the test's own folder."""
    monkeypatch.setenv("PRIVOXEL_CACHE", str(tmp_path / "cache"))


def without(*rows):
    values = TIV.copy()
    values[list(rows)] = np.nan
    return COHORT.with_columns({"tiv": values})


def brought(box, cohort):
    grouped = group_by_ids(cohort, MEMBERS, None)
    return brought_white_box(box, grouped, "net", signals=SignalConfig(batch_size=7), runtime=Runtime())


def told(box, cohort):
    with pytest.raises(ModelProblemsError) as error:
        brought(box, cohort)
    return {problem.where: f"{problem.what}. {problem.remedy}" for problem in error.value.problems}


def test_extracted_gradients_are_of_the_summed_loss_scan_by_scan(tmp_path):
    cohort = without(0, 9, 27)
    audited = brought(several(), cohort)
    config = RunConfig(models=(ModelConfig(name="net"),), signals=SignalConfig(batch_size=7))
    folder = open_run(tmp_path / "run", {"config": config.to_dict()}, resume=False, facts={})
    plan = TargetPlan("net", config.models[0], group_by_ids(cohort, MEMBERS, None).design)
    table = audited.observe(plan, (), Workplace(config, cohort, folder, Runtime(), Silent())).table
    slow = in_place(2).double()
    for row in range(0, 40, 9):
        slow.zero_grad()
        age, tiv = slow(torch.from_numpy(cohort.batch([row])).double())[0]
        loss = (age - (cohort.covariates.age[row] - 60) / 9).abs()
        if row not in {0, 9, 27}:
            loss = loss + 0.5 * (tiv - (TIV[row] - 1.5) / 0.2).square()
        loss.backward()
        age = age.detach()
        gradients = {name: p.grad.numpy() for name, p in slow.named_parameters()}
        norms = np.array([np.linalg.norm(gradients[name]) for name in table.tensors])
        assert table.read("prediction")[row] == pytest.approx(60 + 9 * float(age), rel=1e-4)
        np.testing.assert_allclose(table.read("gradient-norms")[row], norms, atol=1e-4 * norms.max())
        stored, expected = table.read("gradient:conv6")[row], gradients["body.weight"]
        np.testing.assert_allclose(stored, expected, atol=2e-3 * np.abs(expected).max() + 1e-6)


def test_missing_values_are_counted_in_both_groups():
    grouped = group_by_ids(without(0, 9, 27), MEMBERS, None)
    note = (
        "The true tiv is missing for 2 of 20 members and 1 of 20 others; the loss of such a scan is without"
    )
    assert missing_notes(grouped, ("tiv",)) == (f"{note} that term.",)
    assert brought(several(), without(0, 9, 27)).notes[-1].startswith(note)
    assert missing_notes(group_by_ids(without(), MEMBERS, None), ("tiv",)) == ()
    sessions = make_cohort(10, sessions=2)
    values = np.ones(20)
    values[[3, 18, 19]] = np.nan
    twice = group_by_ids(sessions.with_columns({"tiv": values}), sessions.covariates.participants[:5])
    assert "for 1 of 5 members and 1 of 5 others" in missing_notes(twice, ("tiv",))[0]


def test_a_value_that_is_missing_in_one_group_is_refused_since_it_tells_the_groups_apart():
    words = told(several(), without(*range(8)))["targets"]
    assert "'tiv' is missing for 8 of 20 members and 0 of 20 others" in words
    assert "(AUC 0.70)" in words
    assert "Leave out whom it is missing for, in both groups" in words
    assert not target_problems(group_by_ids(without(*range(4)), MEMBERS, None), ("tiv",))
    assert not target_problems(group_by_ids(without(*range(5, 35)), MEMBERS, None), ("tiv",))


def test_a_column_that_is_not_there_is_told_with_everything_else():
    box = several()
    box.net.norm = nn.BatchNorm3d(4, track_running_stats=False)
    words = told(box, COHORT.with_columns({"volume": TIV}))
    assert set(words) == {"targets", "batch norm", "batch"}
    assert "has no column 'tiv' of true values (it has volume)" in words["targets"]
    assert "load_cohort(…, columns=('tiv',))" in words["targets"]
    assert "cohort.with_columns({'tiv': values})" in words["targets"]
    assert "the column 'tiv' holds no number" in told(several(), without(*range(40)))["targets"]
    with pytest.raises(SignalError, match="columns of the cohort called tiv, got none"):
        true_values(COHORT.covariates, ("tiv",), [0])


def test_a_network_is_tried_with_every_term_even_if_the_first_scans_lack_a_value():
    wrong = WhiteBox(in_place(2), Several(Scalar(target=0), {"tiv": Scalar(target=5)}))
    assert "at least 6 values per scan" in told(wrong, without(0, 1, 2))["loss"]


def test_attacks_are_those_whose_formulas_hold_for_the_sum():
    attacks = white_box_attacks(checked_model(several(), without(), Runtime()))
    assert {"default", "gradient-conv1", "gradient-norm"} <= set(attacks)
    assert not {"self-influence", "inverse-hessian", "stated-likelihood"} & set(attacks)
    stated = WhiteBox(in_place(3), Several(Gaussian(), {"tiv": Scalar(target=2)}))
    assert "stated-likelihood" in white_box_attacks(checked_model(stated, without(), Runtime()))


def test_the_columns_that_the_head_names_are_read_from_the_cohorts_table(monkeypatch, tmp_path, capsys):
    folder = write_scans(tmp_path / "bids")
    table = folder / "participants.tsv"
    lines = table.read_text().splitlines()
    arguments = ("audit", "tests.brought_networks:several", "--cohort", folder, "--resolution", 10, "-q")
    assert call(monkeypatch, *arguments, "-o", tmp_path / "refused") == 2
    assert "participants.tsv: has no column 'tiv'. Add it" in capsys.readouterr().err
    known = [f"{line}\t{'n/a' if k == 5 else 1.2 + 0.01 * k}" for k, line in enumerate(lines[1:])]
    write_lines(table, f"{lines[0]}\tTIV", *known)
    given = Given("tests.brought_networks:several", folder, resolution=10.0)
    results = audit_given(given, tmp_path / "run", QUICK).results
    head = results.config["model"]["head"]
    assert head["kind"] == "Several"
    assert head["age"]["offset"] == 60.0
    assert head["others"]["tiv"]["scale"] == 0.2
    assert head["weights"] == {"tiv": 0.5}
    (target,) = results.targets
    assert "tiv is missing for 0 of 12 members and 1 of 12 others" in target.design["groups"]
    assert "gradient-norm" in {attack.name for attack in target.attacks}


def test_a_position_given_on_the_command_line_is_the_ages():
    with pytest.raises(ModelError, match="target needs a position in every Scalar or in none"):
        open_network("tests.brought_networks:several", target=1)
    assert open_network("tests.brought_networks:placed", target=2).head.age.target == 2
    with pytest.raises(ModelError, match="needs the head Scalar"):
        open_network("tests.brought_networks:binned", target=1)


def test_other_true_values_do_not_continue_a_run(tmp_path):
    options = {"members": MEMBERS, "output": tmp_path / "run"}
    privoxel.audit(several(), without(), options=QUICK, **options)
    again = replace(QUICK, resume=True)
    privoxel.audit(several(), without(), options=again, **options)
    with pytest.raises(privoxel.PrivoxelError, match="cohort_content"):
        privoxel.audit(several(), without(0, 30), options=again, **options)


def test_the_example_in_the_documentation_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (example,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)
        if "Several(" in block
    ]
    names = {}
    exec(example, names)  # noqa: S102 - our own documentation
    assert names["outcome"].results.config["model"]["head"]["kind"] == "Several"
