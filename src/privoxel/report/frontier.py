"""The page of a frontier: utility against vulnerability, the overfitting line, ε from both sides.

Settings are numbered from the most accurate to the least, in tables and pictures alike.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from privoxel.evaluation.frontier_results import (
    Front,
    FrontierPoint,
    FrontierResults,
    OverfittingLine,
    PointStanding,
    PrivacyBounds,
    Vulnerability,
)
from privoxel.evaluation.overfitting import LARGEST_PUBLISHED_GAP, PUBLISHED
from privoxel.evaluation.results import Metric
from privoxel.report.frontier_figures import epsilon_pictures, front_picture, line_picture
from privoxel.report.page import environment, safe
from privoxel.report.tables import DASH, Cell
from privoxel.report.wording import flat
from privoxel.store import write_text

SEEDED = (
    "Noise that follows from the run's seed gives no guarantee to anybody who knows the seed, which a run "
    "prints: the ε of such settings is what secret noise would give."
)
METRICS = {"balanced_accuracy": "balanced accuracy", "auc": "AUC"}
TSV = ("setting", "family", "quantity", "adversary", "attack", "value", "low", "high", "level", "method")


class PointRow(NamedTuple):
    """One setting for the page: each best attack with its mark on that frontier, its changes in words."""

    number: int
    point: FrontierPoint
    changes: str
    reached: list[tuple[Vulnerability, str]]


class StandingRow(NamedTuple):
    """Where one setting stands, in words."""

    number: int
    standing: PointStanding
    verdict: str
    alike: str


def write_frontier(results: FrontierResults, path: Path) -> None:
    """Write the page of ``results`` to ``path``; a reader never sees half a file."""
    write_text(path, render_frontier(results))


def render_frontier(results: FrontierResults) -> str:
    """Return the page of a frontier as the text of one HTML file."""
    ordered = sorted(results.points, key=lambda point: point.mae.value or 0.0)
    numbers = {point.name: k for k, point in enumerate(ordered, start=1)}
    private = [point for point in ordered if point.privacy is not None]
    pictures = [front_picture(front, results, numbers) for front in results.fronts]
    lines = [line_picture(line, results, numbers) for line in results.lines[:1]]
    return (
        environment()
        .get_template("frontier.html.jinja")
        .render(
            results=results,
            metric=METRICS[results.metric],
            rows=[_point_row(point, numbers[point.name], results.fronts) for point in ordered],
            fronts=[(front, _standing_rows(front, numbers)) for front in results.fronts],
            numbers=numbers,
            front_pictures=[safe(picture) for picture in pictures],
            line_pictures=[safe(picture) for picture in lines],
            line_rows=_line_rows(results),
            sharing=[_listed(names, numbers) for names in results.sharing],
            published=PUBLISHED["all"],
            largest_gap=LARGEST_PUBLISHED_GAP,
            any_left_out=any(front.left_out for front in results.fronts),
            private=private,
            epsilon_pictures=[safe(picture) for picture in epsilon_pictures(private, results, numbers)],
            bound=_bound,
            privacy_notes=privacy_notes(private),
            in_parts=in_parts,
            config=flat(results.config),
            machine=flat(results.machine),
            created=results.created[:16].replace("T", " "),
        )
    )


def in_parts(metric: Metric, scale: float = 1.0, digits: int = 2) -> Cell:
    """Return a metric and its interval as texts.

    >>> in_parts(Metric(value=-0.5, low=-1.0, high=0.25))
    Cell(text='−0.50', interval='−1.00 to 0.25', note='')
    """
    if metric.value is None:
        return Cell(DASH)

    def text(value: float) -> str:
        shown = round(scale * value, digits) + 0.0  # no minus zero
        return f"{shown:.{digits}f}".replace("-", "−")

    if metric.low is None or metric.high is None:
        return Cell(text(metric.value))
    return Cell(text(metric.value), f"{text(metric.low)} to {text(metric.high)}")


def frontier_tsv(results: FrontierResults) -> str:
    """Return ``results.tsv``: one row per setting and quantity, fractions 0-1, errors in years."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(TSV)
    for point in results.points:
        for row in _tsv_rows(point):
            writer.writerow([point.name, point.family, *row])
    return text.getvalue()


def _tsv_rows(point: FrontierPoint) -> list[list[str]]:
    plain = {name: getattr(point, name) for name in ("mae", "r2", "members_mae", "gap", "model_gap")}
    rows = [_tsv_row(name, metric) for name, metric in plain.items()]
    rows.append(_tsv_row("primary_balanced_accuracy", point.primary))
    for one in point.vulnerability:
        rows.append(_tsv_row("best_balanced_accuracy", one.accuracy, one.adversary, one.attack))
        rows.append(_tsv_row("best_auc", one.auc, one.adversary, one.auc_attack))
    if point.privacy is not None:
        bounds = point.privacy
        method = f"{bounds.accountant}, if the noise were secret" if bounds.is_seeded else bounds.accountant
        rows.append(_tsv_row("epsilon_upper", Metric(value=bounds.upper, method=method)))
        lower = Metric(value=bounds.lower, level=bounds.level, method=bounds.method)
        rows.append(_tsv_row("epsilon_lower", lower, attack=bounds.attack))
    return rows


def _tsv_row(quantity: str, metric: Metric, adversary: str = "", attack: str = "") -> list[str]:
    values = (metric.value, metric.low, metric.high, metric.level)
    numbers = ["n/a" if value is None else repr(value) for value in values]
    return [quantity, adversary or "n/a", attack or "n/a", *numbers, metric.method or "n/a"]


def _point_row(point: FrontierPoint, number: int, fronts: Sequence[Front]) -> PointRow:
    marks = {front.adversary: mark(point.name, front) for front in fronts}
    reached = [(one, marks.get(one.adversary, "")) for one in point.vulnerability]
    return PointRow(number, point, changes_in_words(point.changes), reached)


def mark(name: str, front: Front) -> str:
    """Return what follows a setting's accuracy: a dot on the frontier, a dagger where it is left out."""
    return " ●" if name in front.names else " †" if name in front.left_out else ""


def changes_in_words(changes: Mapping[str, object]) -> str:
    """Return the changed settings as a reader writes them.

    >>> changes_in_words({"model": {"dropout": 0.5}, "training": {"epochs": 6}})
    'model.dropout = 0.5, training.epochs = 6'
    """
    return ", ".join(f"{key} = {value}" for key, value in flat(dict(changes))) or "as the common settings"


def _standing_rows(front: Front, numbers: Mapping[str, int]) -> list[StandingRow]:
    ordered = sorted(front.standings, key=lambda standing: numbers[standing.name])
    return [
        StandingRow(numbers[one.name], one, _verdict(one, numbers), _listed(one.alike, numbers))
        for one in ordered
    ]


def _line_rows(results: FrontierResults) -> list[OverfittingLine]:
    """Return the lines in the order of the page: those over some settings follow the primary one."""
    return [*results.lines[:1], *results.part_lines, *results.lines[1:]]


def _listed(names: Sequence[str], numbers: Mapping[str, int]) -> str:
    return ", ".join(map(str, sorted(numbers[name] for name in names))) or DASH


def _verdict(standing: PointStanding, numbers: Mapping[str, int]) -> str:
    if standing.is_on_front:
        return "not dominated"
    by = _listed(standing.dominated_by, numbers)
    return f"dominated by {by}" if standing.clearly else f"dominated by {by}, within the uncertainty"


def _bound(privacy: PrivacyBounds) -> str:
    shown = privacy.upper_shown
    return f"{shown}, if secret" if privacy.is_seeded and privacy.upper is not None else shown


def privacy_notes(points: Sequence[FrontierPoint]) -> list[str]:
    """Return sentences on where the noise of private settings comes from, and what that does to their ε."""
    bounds = [point.privacy for point in points if point.privacy is not None]
    notes = list(dict.fromkeys(one.noise for one in bounds if one.noise))
    if any(one.is_seeded for one in bounds):
        notes.append(SEEDED)
    return notes
