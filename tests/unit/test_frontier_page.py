"""The page of a frontier and its table, from fabricated results."""

import csv
import io
import re

import pytest
from rich.console import Console

from privoxel.evaluation.frontier_results import (
    Band,
    Front,
    FrontierPoint,
    FrontierResults,
    OverfittingLine,
    PointStanding,
    PrivacyBounds,
    Recommendation,
    Unfinished,
    Vulnerability,
)
from privoxel.evaluation.results import Metric
from privoxel.recipes.defending.concluding import findings_of
from privoxel.recipes.defending.summary import frontier_table
from privoxel.report.frontier import frontier_tsv, render_frontier


def about(value: float, arm: float = 0.05) -> Metric:
    return Metric(value=value, low=value - arm, high=value + arm, method="made up")


def point(name: str, mae: float, accuracy: float, privacy: PrivacyBounds | None = None) -> FrontierPoint:
    reached = [
        Vulnerability(
            adversary=adversary,
            candidates=3,
            attack="abs-error",
            title="|error| threshold",
            accuracy=about(accuracy),
            auc_attack="tube",
            auc_title="tube",
            auc=about(accuracy + 0.02),
            p_value=0.01,
        )
        for adversary in ("black-box", "white-box")
    ]
    return FrontierPoint(
        name=name,
        family="f",
        folder=name.lower(),
        changes={"training": {"epochs": 3}},
        defence={},
        n_targets=1,
        n_members=20,
        n_non_members=21,
        mae=about(mae, 0.3),
        r2=about(0.4),
        members_mae=about(1.0),
        gap=about(mae - 1),
        model_gap=about(mae - 1),
        null_mae=6.2,
        primary=about(accuracy),
        vulnerability=reached,
        privacy=privacy,
        seconds=3.0,
    )


def bounds(upper: float | None, lower: float) -> PrivacyBounds:
    return PrivacyBounds(
        delta=1e-5,
        upper=upper,
        guarantee="said <here>",
        accountant="rdp",
        noise_multiplier=0.7,
        lower=lower,
        level=0.95,
        settings=2,
        attack="abs-error",
        method="held out",
        agree=upper is None or lower <= upper,
    )


@pytest.fixture
def results() -> FrontierResults:
    points = [point("B", 4.0, 0.6), point("A", 3.0, 0.8), point("DP8", 5.0, 0.55, bounds(8.0, 0.2))]
    points.append(point("DP∞", 3.1, 0.81, bounds(None, 0.1)))
    standing = [("B", True, ()), ("A", True, ()), ("DP8", True, ()), ("DP∞", False, ("A",))]
    standings = [
        PointStanding(
            name=n, is_on_front=on, share=0.5, dominated_by=list(by), clearly=False, alike=["A"] if by else []
        )
        for n, on, by in standing
    ]
    chosen = Recommendation(
        name="A",
        loss=about(0.0, 0.0),
        vulnerability=about(0.8),
        attack="abs-error",
        title="|error| threshold",
        candidates=2,
        alike=["DP∞"],
        meets_aim=False,
        loss_may_exceed=True,
        confirm="confirm-black-box.yaml",
    )
    fronts = [
        Front(
            adversary=a,
            names=["A", "B", "DP8"],
            standings=[one for one in standings if one.name not in left_out],
            left_out=left_out,
            recommendation=chosen,
        )
        for a, left_out in (("black-box", []), ("white-box", ["DP∞"]))
    ]
    line = OverfittingLine(
        attack="abs-error",
        title="|error| threshold",
        adversary="black-box",
        is_primary=True,
        over="all settings",
        models=4,
        intercept=about(0.5),
        slope=about(0.14),
        r=about(0.96, 0.03),
        residual_sd=0.02,
        band=Band(gaps=[0.0, 4.0], low=[0.4, 0.95], high=[0.6, 1.15]),
    )
    return FrontierResults(
        title="Frontier & more",
        created="2026-11-25T12:00:00",
        versions={"privoxel": "0"},
        machine={"cores": 2},
        seed=1,
        config={"seed": 1},
        cohort="made up",
        is_simulated=True,
        metric="balanced_accuracy",
        reference="A",
        tolerated_loss=0.1,
        aim=0.55,
        draws=10,
        primary_attack="abs-error",
        points=points,
        unfinished=[Unfinished(name="C", family="g", reason="broke <here>")],
        fronts=fronts,
        lines=[line],
        part_lines=[line.model_copy(update={"over": "distinct trainings", "models": 3})],
        sharing=[["A", "DP8"], ["B", "DP∞"]],
        findings=findings_of(points, fronts, [line], 0.55, 1),
    )


def test_the_page_says_everything_and_loads_nothing(results):
    page = render_frontier(results)
    assert page == render_frontier(results)
    for text in (
        "Frontier &amp; more",
        "broke &lt;here&gt;",
        "said &lt;here&gt;",
        "dominated by 1, within the uncertainty",
        "Not told apart from it: DP∞",
        "50.9",
        "15.0",
        "training.epochs = 3",
        "aim of 55 %",
        "26 private models with gaps up to 1.88 years",
        "cross-fitted attackers who gave them and who learned from shared teachers",
        "the upper end of its interval passes it",
        "Left out here: DP∞.",
        "81.0 †",
        "the frontier works against the safest settings",
        '<span class="tag">secondary</span>',
        "black-box; 4 settings",
        "black-box; 3 distinct trainings",
        "1, 4; 2, 3 share one (each list its own)",
        "ask again with abs-error fixed beforehand",
        "privoxel defend confirm-black-box.yaml",
    ):
        assert text in page
    assert not re.search(r"<script|<link|src=|@import|https?://(?!www\.w3\.org)", page)
    assert page.count("<svg") == 2 + 1 + 4
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_a_narrow_terminal_shows_every_number_that_decides(results):
    console = Console(width=80)
    with console.capture() as printed:
        console.print(frontier_table(results, width=80))
    heading, *lines = printed.get().splitlines()
    assert heading.split() == ["setting", "MAE", "black-box", "%", "white-box", "%", "ε"]
    for point in results.points:
        (line,) = (one for one in lines if one.startswith(point.name))
        assert f"{point.mae.value:.2f}" in line
        assert line.count(")") == 2
        assert "…" not in line


def test_an_epsilon_of_seeded_noise_is_nowhere_shown_as_a_guarantee(results):
    secret = bounds(8.0, 0.2).model_copy(update={"randomness": "secret", "noise": "From the system."})
    seeded = bounds(3.0, 0.2).model_copy(update={"randomness": "seeded", "noise": "From the seed."})

    def said(privacy):
        points = [one.model_copy(update={"privacy": privacy}) for one in results.points]
        shown = results.model_copy(update={"points": points})
        table = Console(width=200)
        with table.capture() as printed:
            table.print(frontier_table(shown))
        return render_frontier(shown), frontier_tsv(shown), printed.get()

    page, rows, table = said(seeded)
    assert "gives no guarantee to anybody who knows the seed" in page
    assert "From the seed." in page
    assert "if secret" in page
    assert "‡" in table
    assert "if the noise were secret" in table
    assert "rdp, if the noise were secret" in rows
    page, rows, table = said(secret)
    assert "From the system." in page
    assert not any("if " in text for text in (rows, table))
    assert "who knows the seed" not in page


def test_settings_are_numbered_from_the_most_accurate(results):
    page = render_frontier(results)
    assert '1 · <a href="points/a/report.html">A</a>' in page
    assert '4 · <a href="points/dp8/report.html">DP8</a>' in page


def test_the_table_for_machines_has_a_row_a_quantity(results):
    rows = list(csv.DictReader(io.StringIO(frontier_tsv(results)), delimiter="\t"))
    assert len(rows) == 4 * 10 + 2 * 2
    upper = [row["value"] for row in rows if row["quantity"] == "epsilon_upper"]
    assert upper == ["8.0", "n/a"]
    (mae,) = (row for row in rows if row["setting"] == "A" and row["quantity"] == "mae")
    assert (float(mae["low"]), float(mae["value"])) == pytest.approx((2.7, 3.0))


def test_findings_name_the_frontier_the_choice_and_the_line(results):
    said = " ".join(results.findings)
    assert "Black-box: no other setting is better in both than A, B, DP8." in said
    assert "does not stay within the aim of 55 %" in said
    assert "Over 4 settings (1 not finished) the accuracy" in said
    assert "On every private setting (2)" in said
    assert "The upper end of its loss passes the tolerated one." in said
    assert "Left out, since they change the answers alone: DP∞." in said


def test_none_is_left_out_only_where_all_are_finished(results):
    assert "1 failed or did not fit into the budget" in render_frontier(results)
    assert "none left out" not in render_frontier(results)
    findings = findings_of(results.points, results.fronts, results.lines, 0.55)
    complete = results.model_copy(update={"unfinished": [], "findings": findings})
    page = render_frontier(complete)
    assert page.count("none left out") == 2
    assert "did not fit into the budget" not in page


def test_more_epsilon_than_the_accountant_allows_is_a_warning(results):
    broken = point("broken", 4.0, 0.9, bounds(0.5, 2.0))
    (said,) = findings_of([broken], [], [], 0.55)
    assert said.startswith("Warning: an attack shows more ε than the accountant allows on broken")
    assert "shared teachers" in said


def test_without_the_undefended_setting_nothing_is_recommended(results):
    front = results.fronts[0].model_copy(update={"recommendation": None})
    assert "not finished" in " ".join(findings_of(results.points, [front], [], 0.55))
    render_frontier(results.model_copy(update={"fronts": [front], "reference": "gone", "lines": []}))


def test_the_terminal_has_a_row_a_setting(results):
    assert frontier_table(results).row_count == 4
