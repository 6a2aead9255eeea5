"""The paper reproduced on a few tiny brains: every part of the page, resumed, numbers those of the runs."""

import json
from html import unescape

import pytest

from privoxel.config import check_settings
from privoxel.errors import ConfigError, StoreError
from privoxel.evaluation.reproduction_results import Comparison
from privoxel.recipes.reproduction.cells import Plan, ReproduceOptions, run_cells
from privoxel.recipes.reproduction.central import (
    PARTS,
    SCALES,
    Central,
    CentralScale,
    ShadowOf,
    central_scale,
    models_of,
)
from privoxel.recipes.reproduction.run import compare_all
from privoxel.recipes.reproduction.tables import DEMO_ALL, EVERYTHING, cells_of, config_of
from privoxel.report.reproduction import render_reproduction
from privoxel.report.reproduction_markdown import reproduction_markdown
from tests.recipes.commands import call

pytest.importorskip("opacus", reason="private training is an extra", exc_type=ImportError)

TABLE_1 = [
    "error-forest",
    "gradient-magnitude",
    "gradient-conv1",
    "prediction-label",
    "combined",
    "abs-error",
]
SETTINGS = {
    "run": {
        "seed": 3,
        "cohort": {"participants": 44, "resolution_mm": 10.0},
        "split": {"members": 14, "non_members": 14, "others": 10, "validation": 4},
        "models": [{"name": "cnn3d", "width": 0.125, "head": "scaled", "dropout": 0.0, "axis": 2}],
        "training": {"epochs": 1, "learning_rate": 1e-3, "batch_size": 4, "threads": 1},
        "attacks": {
            "protocol": "reproduction",
            "primary": "prediction-label",
            "repeats": 2,
            "names": TABLE_1,
        },
    },
    "private": {
        "attacks": ["abs-error"],
        "primary": "abs-error",
        "noise": {"cnn3d": [0.01, 0.1, 1.0]},
    },
}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    scale = check_settings(CentralScale, SETTINGS, where="tiny")
    cells = (Central("cnn3d"), *scale.private_models(), ShadowOf("cnn3d"))
    return Plan(cells, {}, scale, tmp_path_factory.mktemp("reproduction"))


@pytest.fixture(scope="module")
def found(plan):
    return run_cells(plan, ReproduceOptions())


@pytest.fixture(scope="module")
def comparison(plan, found):
    return compare_all("all", "demo", plan, found)


def test_table_1_holds_the_accuracies_of_the_run_beside_the_published(comparison, found):
    (table,) = [table for table in comparison.tables if table.part == "table1"]
    attacks = {one.name: one for one in found.central[Central("cnn3d")].results.targets[0].attacks}
    row = next(line for line in table.lines if line.label == "prediction + label")
    assert row.cells[0] == attacks["prediction-label"].metrics["balanced_accuracy"]
    assert row.cells[2] == "76.45 ± 0.20"
    assert {line.label for line in table.lines if line.kind == "control"} >= {"Age, sex and site only"}


def test_private_models_are_on_the_same_people_and_have_a_line(comparison, found):
    runs = [run for cell, run in found.central.items() if cell.noise is not None]
    assert all((run.scores.participants == runs[0].scores.participants).all() for run in runs)
    assert not any(target.name.endswith("null") for run in runs for target in run.results.targets)
    (scatter,) = [one for one in comparison.scatters if one.title.startswith("Figure 3b")]
    assert [len(one.x) for one in scatter.series if not one.is_published] == [3]
    assert [line.is_published for line in scatter.lines] == [True, False]


def test_the_two_shadows_are_asked_about_the_same_people(found):
    shadow = found.shadows["cnn3d"]
    assert shadow.own.members == round(0.684 * 14)
    assert shadow.judged_members == 14 - shadow.own.members
    assert shadow.disjoint is not None
    assert shadow.disjoint.members == 10
    gain = shadow.own.target.value - shadow.disjoint.target.value
    assert shadow.difference.value == pytest.approx(gain)


def test_pages_hold_every_table_claim_and_decision(comparison):
    page, markdown = unescape(render_reproduction(comparison)), reproduction_markdown(comparison)
    for table in comparison.tables:
        assert table.title in markdown
    for claim in comparison.claims:
        assert f"**{claim.ruling}**" in markdown
    assert comparison.decisions[0].question in page
    assert comparison.decisions[0].question in markdown
    assert page.count("<svg") == len(comparison.histograms) + len(comparison.scatters)
    assert comparison == Comparison.model_validate_json(json.dumps(comparison.model_dump(mode="json")))


def test_what_is_finished_is_read_and_not_run_again(plan, found, monkeypatch):
    monkeypatch.setattr("privoxel.recipes.reproduction.cells.run_cell", None)
    assert run_cells(plan, ReproduceOptions()).shadows == found.shadows


def test_a_folder_of_other_settings_is_refused(plan, found):
    assert found.central
    settings = {**SETTINGS, "run": {**SETTINGS["run"], "seed": 4}}
    other = Plan(plan.cells, {}, check_settings(CentralScale, settings, where="tiny"), plan.output)
    with pytest.raises(StoreError, match="holds a run with other settings"):
        run_cells(other, ReproduceOptions())


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_has_settings_for_all_of_its_models(scale):
    settings = central_scale(scale)
    models = {model for part in PARTS for model in models_of(part, settings)}
    assert len({model.name for model in models}) == len(models)
    for model in models:
        assert settings.config_of(model).models[0].name == model.model
    for cell in cells_of("all", scale):
        assert config_of(scale, cell).model.name == cell.model


def test_the_demo_has_eight_private_models_and_two_environments():
    assert len(central_scale("demo").private_models()) >= 8
    assert {cell.environment for cell in DEMO_ALL} == {"uniform-iid", "skewed-non-iid"}


def test_the_paper_scale_keeps_its_shares_on_a_cohort_of_the_user():
    split = central_scale("paper", real=True).run.split
    assert split.members + split.non_members + split.validation == pytest.approx(1.0)
    assert split.members == pytest.approx(7312 / 10446)


@pytest.mark.parametrize("what", EVERYTHING)
def test_everything_that_the_help_names_is_known(what):
    assert isinstance(cells_of(what, "demo"), tuple)


def test_figure_4_needs_no_training_and_stands_beside_the_published_ages(monkeypatch, tmp_path):
    assert call(monkeypatch, "reproduce", "gupta2021", "fig4", "-q", "-o", tmp_path) == 0
    comparison = Comparison.model_validate_json((tmp_path / "fig4.json").read_text(encoding="utf-8"))
    (table,) = comparison.tables
    assert [line.label for line in table.lines][:2] == ["uniform-iid", "uniform-iid, published"]
    assert table.lines[-1].cells[0] == "2401: 66.5 ± 4.9"
    assert (tmp_path / "fig4.html").read_text(encoding="utf-8").count("<svg") == 3
    assert "2401: 66.5 ± 4.9" in (tmp_path / "fig4.md").read_text(encoding="utf-8")


def test_unknown_tables_and_scales_are_refused():
    with pytest.raises(ConfigError, match="needs one of table1"):
        cells_of("table9", "demo")
    with pytest.raises(ConfigError, match="--scale needs one of demo, small, paper"):
        central_scale("tiny")


def test_a_dry_run_says_time_disk_and_memory_and_writes_nothing(monkeypatch, capsys, tmp_path):
    folder = tmp_path / "out"
    assert call(monkeypatch, "reproduce", "gupta2021", "appendix-e", "--dry-run", "-o", folder) == 0
    said = capsys.readouterr().out
    assert "shadow-slice-mean" in said
    assert "4 of 4 models are left" in said
    assert "Memory: about" in said
    assert not folder.exists()
