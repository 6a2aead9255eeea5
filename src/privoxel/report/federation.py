"""The report of a federation: a pure function from its results to one self-contained page.

Pair matrices are tables whose cells are tinted by their distance from one half: they print, they can be
read aloud, and each attack stands beside its control and the difference of the two.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from privoxel.evaluation.federation_results import FederationResults, PairMatrix, RoundPoint
from privoxel.evaluation.results import Metric
from privoxel.report.figures import Key, Picture
from privoxel.report.page import KeyNumber, environment, safe
from privoxel.report.svg import INK, MEMBER, MUTED, NON_MEMBER, integer_ticks, new_axes, to_svg
from privoxel.report.tables import DASH, years
from privoxel.report.wording import flat
from privoxel.store import write_text

ENVIRONMENTS = {
    "uniform-iid": "Uniform & IID: learners of one size with the ages of the whole cohort",
    "uniform-non-iid": "Uniform & non-IID: learners of one size, each with ages of its own",
    "skewed-non-iid": "Skewed & non-IID: learners of different sizes, each with ages of its own",
    "dirichlet": "Ages dealt to the learners by a Dirichlet draw",
    "site": "Real sites",
}
FULL_TINT = 0.3
"""A cell this far from one half (or from no excess) takes the deepest tint."""


class Tinted(NamedTuple):
    """One cell of a heat map: its text, its tint in percent, which colour, and its interval."""

    text: str
    tint: int
    is_above: bool
    interval: str


class HeatMap(NamedTuple):
    """A pair matrix ready for the page."""

    matrix: PairMatrix
    rows: list[tuple[str, list[Tinted]]]
    mean: str
    successful: str
    paper: str


def write_federation_report(results: FederationResults, path: Path, pictures: Sequence[Picture] = ()) -> None:
    """Write the report of a federation to ``path``; a reader never sees half a file."""
    write_text(path, render_federation(results, pictures))


def render_federation(results: FederationResults, pictures: Sequence[Picture] = ()) -> str:
    """Return the report of a federation as the text of one HTML file; ``pictures`` show its learners."""
    template = environment().get_template("federation.html.jinja")
    names = [one.name for one in results.learners]
    return template.render(
        results=results,
        environment=ENVIRONMENTS.get(results.environment, results.environment),
        key_numbers=_key_numbers(results),
        heat_maps=[heat_map(matrix, names) for matrix in results.matrices],
        names=names,
        hero=safe(_round_picture(results.by_round) if results.by_round else _error_picture(results)),
        pictures=[safe(picture) for picture in (*pictures, *_pictures(results))],
        config=flat(results.config),
        machine=flat(results.machine),
        years=years,
        shown=shown,
        percent=percent,
        created=results.created[:16].replace("T", " "),
    )


def shown(metric: Metric | None, *, scale: float = 1.0, digits: int = 2) -> str:
    """Return a metric with its interval, such as ``0.60 (0.55–0.65)``; a dash where there is none."""
    if metric is None or metric.value is None:
        return DASH
    text = f"{scale * metric.value:.{digits}f}"
    if metric.low is None or metric.high is None:
        return text
    return f"{text} ({scale * metric.low:.{digits}f}–{scale * metric.high:.{digits}f})"


def percent(metric: Metric | None) -> str:
    """Return a fraction as a percentage with its interval."""
    return shown(metric, scale=100, digits=1)


def _primary(results: FederationResults, kind: str) -> PairMatrix | None:
    """Return the matrix of ``kind`` that the first key numbers are about."""
    name = f"set-{results.config.get('attack', {}).get('primary', 3)}"
    of_kind = _of_kind(results, kind)
    return next((matrix for matrix in of_kind if matrix.name.startswith(name)), next(iter(of_kind), None))


def _of_kind(results: FederationResults, kind: str) -> list[PairMatrix]:
    return [one for one in results.matrices if one.kind == kind and not one.name.endswith("-matched")]


def _key_numbers(results: FederationResults) -> list[KeyNumber]:
    found = []
    for matrix, name, meaning in (
        (
            _primary(results, "attack"),
            "Attack, mean over all pairs",
            "Balanced accuracy, %; guessing is 50.",
        ),
        (
            max(_of_kind(results, "control"), key=lambda one: one.mean_all.value or 0.0, default=None),
            "Strongest control, mean over all pairs",
            "Without any model: what it reaches is a difference between people.",
        ),
        (
            next((one for one in results.matrices if one.name.endswith("-matched-excess")), None)
            or _primary(results, "excess"),
            "Attack minus control among people of equal ages",
            "Percentage points that the community models add. Only this can be a leak.",
        ),
    ):
        if matrix is None or matrix.mean_all.value is None:
            continue
        value, _, interval = percent(matrix.mean_all).partition(" ")
        found.append(KeyNumber(value, interval.strip("()"), name, meaning))
    return found


def heat_map(matrix: PairMatrix, names: Sequence[str]) -> HeatMap:
    """Return a pair matrix ready for the page."""
    centre = 0.0 if matrix.kind == "excess" else 0.5
    rows = [
        (name, [_tinted(cell, centre) for cell in cells])
        for name, cells in zip(names, matrix.cells, strict=True)
    ]
    return HeatMap(
        matrix,
        rows,
        percent(matrix.mean_all),
        _successful(matrix.mean_successful, matrix.successes),
        _successful(matrix.paper_successful, matrix.paper_successes),
    )


def _successful(mean: float | None, count: int | None) -> str:
    return DASH if mean is None or count is None else f"{100 * mean:.1f} ({count} pairs)"


def _tinted(cell: Metric | None, centre: float) -> Tinted:
    if cell is None or cell.value is None:
        return Tinted(DASH, 0, False, "")
    away = cell.value - centre
    tint = round(60 * min(1.0, abs(away) / FULL_TINT))
    return Tinted(f"{100 * cell.value:.1f}", tint, away > 0, percent(cell).partition(" ")[2])


def _pictures(results: FederationResults) -> list[Picture]:
    return [_error_picture(results)] if results.by_round else []


def _error_picture(results: FederationResults) -> Picture:
    """Return the errors of the community models by round."""
    figure, axes = new_axes(2.9)
    points = [point for point in results.rounds if point.test_mae is not None]
    numbers = [point.number for point in points]
    axes.plot(numbers, [point.train_mae or 0.0 for point in points], color=MEMBER, linewidth=2)
    axes.plot(numbers, [point.test_mae or 0.0 for point in points], color=NON_MEMBER, linewidth=2)
    axes.axhline(results.utility.null, color=INK, linewidth=1, linestyle=(0, (2, 2)))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("round")
    integer_ticks(axes)
    axes.set_ylabel("mean absolute error (years)")
    legend = (
        Key("line-member", "scans of the learners"),
        Key("line-other", "unseen scans"),
        Key("guess", f"predicting the mean age ({results.utility.null:.1f} years)"),
    )
    label = (
        f"Mean absolute error by round; {results.utility.members:.1f} years on the learners' scans at last."
    )
    caption = "Where the lines part, the community model begins to remember."
    return Picture(to_svg(figure, key="mae", label=label), "Error by round", caption, legend)


def _round_picture(points: Sequence[RoundPoint]) -> Picture:
    """Return the attack's accuracy by round, beside the paper's figure 2 where it has one."""
    figure, axes = new_axes(2.9)
    numbers = [point.round for point in points]
    values = [100 * (point.mean_all.value or 0.5) for point in points]
    low = [100 * (point.mean_all.low or 0.0) for point in points]
    high = [100 * (point.mean_all.high or 1.0) for point in points]
    axes.fill_between(numbers, low, high, color=MEMBER, alpha=0.22, linewidth=0)
    axes.plot(numbers, values, color=MEMBER, linewidth=2)
    legend = [Key("line-member", "mean over all pairs (band: 95 % interval)")]
    published = [(point.round, 100 * point.paper) for point in points if point.paper is not None]
    if published:
        axes.plot(*zip(*published, strict=True), color=MUTED, linewidth=1.2)
        legend.append(Key("line-muted", "figure 2 of Gupta et al. 2021, its own cohort and rounds"))
    axes.axhline(50, color=INK, linewidth=1, linestyle=(0, (2, 2)))
    legend.append(Key("guess", "guessing"))
    axes.set_xlabel("round")
    integer_ticks(axes)
    axes.set_ylabel("balanced accuracy (%)")
    label = f"Balanced accuracy by round: {values[0]:.0f} % at first, {values[-1]:.0f} % at last."
    caption = "The attack on each round's community model alone."
    return Picture(to_svg(figure, key="by-round", label=label), "Attack by round", caption, tuple(legend))
