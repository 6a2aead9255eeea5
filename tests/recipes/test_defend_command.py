"""``privoxel defend`` from the command line to the page: a failure, a budget and a second call."""

import json

import pytest

from privoxel.evaluation.frontier_results import FrontierResults
from tests.recipes.commands import call, one_network

SETTINGS = """
[frontier]
draws = 100

[[points]]
name = "undefended"
family = "none"

[[points]]
name = "too fast"
family = "failing"
training.learning_rate = 1e30

[[points]]
name = "rounded"
family = "answers"
defence.release.round_years = 5.0

[[grid]]
name = "DP, noise {value}"
family = "privacy"
setting = "privacy.noise_multiplier"
values = [1.0]
privacy = { delta = 1e-3, randomness = "seeded" }
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVOXEL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "grid.toml"
    common = one_network(["abs-error", "gradient-norm"], "abs-error").replace("others = 4\n", "")
    path.write_text(common + SETTINGS)
    return path


def results_of(folder):
    return FrontierResults.model_validate_json((folder / "results.json").read_text())


def test_a_setting_that_fails_is_named_and_the_others_are_compared(config, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    assert call(monkeypatch, "defend", config, "-o", folder, "-q", "--jobs", 1) == 3
    results = results_of(folder)
    assert {point.name for point in results.points} == {"undefended", "rounded", "DP, noise 1"}
    (failed,) = results.unfinished
    assert failed.name == "too fast"
    assert "finite predictions" in failed.reason
    assert "Traceback" in (folder / "failures" / "too-fast.txt").read_text()
    assert "Not finished: too fast" in capsys.readouterr().out
    _check_results(results)
    confirming = {front.recommendation.confirm for front in results.fronts} - {None}
    assert {path.name for path in folder.glob("confirm-*")} == confirming
    page = (folder / "report.html").read_text()
    for text in ("Overfitting line", "too fast", "Differential privacy", "points/dp-noise-1/report.html"):
        assert text in page
    assert (folder / "points" / "dp-noise-1" / "report.html").exists()
    assert len((folder / "results.tsv").read_text().splitlines()) == 1 + 3 * 10 + 2

    weights = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    config.write_text(config.read_text().replace("1e30", "1e-4"))
    assert call(monkeypatch, "defend", config, "-o", folder, "-q", "--jobs", 1) == 2  # not without --resume
    assert call(monkeypatch, "defend", config, "-o", folder, "-q", "--jobs", 1, "--resume") == 3
    assert "other settings" in results_of(folder).unfinished[0].reason
    renamed = config.read_text().replace("too fast", "slow enough")
    config.write_text(renamed)
    assert call(monkeypatch, "defend", config, "-o", folder, "-q", "--jobs", 1, "--resume") == 0
    assert len(results_of(folder).points) == 4
    for path, time in weights.items():
        assert path.stat().st_mtime_ns == time  # nothing finished was trained again


def _check_results(results):
    assert results.reference == "undefended"
    assert [front.adversary for front in results.fronts] == ["black-box", "white-box"]
    assert [line.attack for line in results.lines] == ["abs-error", "gradient-norm"]
    by_name = {point.name: point for point in results.points}
    assert by_name["undefended"].privacy is None
    bounds = by_name["DP, noise 1"].privacy
    assert bounds.agree
    assert bounds.upper > bounds.lower >= 0.0
    # Rounding changes what is answered, and not the model behind it.
    assert by_name["rounded"].gap.value != by_name["undefended"].gap.value
    assert by_name["rounded"].model_gap.value == pytest.approx(by_name["undefended"].model_gap.value)
    white = {name: point.vulnerability[1] for name, point in by_name.items()}
    assert white["undefended"].candidates == 2
    for front in results.fronts:
        assert front.recommendation.name in by_name
        assert {one.name for one in front.standings} == set(by_name) - set(front.left_out)
    assert [front.left_out for front in results.fronts] == [[], ["rounded"]]


def test_a_dry_run_says_what_each_setting_takes_and_writes_nothing(config, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    assert call(monkeypatch, "defend", config, "-o", folder, "--dry-run", "--json", "--budget", "0.001s") == 0
    plan = json.loads(capsys.readouterr().out)
    assert list(plan["settings"]) == ["undefended"]  # whatever it takes
    assert set(plan["left_out"]) == {"too fast", "rounded", "DP, noise 1"}
    assert not folder.exists()


def test_where_nothing_could_be_finished_all_reasons_are_told(config, tmp_path, monkeypatch, capsys):
    config.write_text(config.read_text().replace("learning_rate = 1e-3", "learning_rate = 1e30"))
    assert (
        call(monkeypatch, "defend", config, "-o", tmp_path / "run", "-q", "--jobs", 1, "--budget", "0.001s")
        == 2
    )
    said = capsys.readouterr().err
    assert "got none of 4" in said
    assert "undefended: ModelError" in said
    assert "left out: the budget does not hold it" in said
