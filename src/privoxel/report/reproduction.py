"""The page of a reproduction: the paper's numbers and ours side by side, each attack with its control."""

from collections.abc import Sequence
from pathlib import Path

from privoxel.evaluation.reproduction_results import ComparedCurve, Comparison, Histograms, Scatter
from privoxel.evaluation.results import Metric
from privoxel.report.federation import ENVIRONMENTS, heat_map, percent
from privoxel.report.figures import GROUP_KEYS, Key, Picture
from privoxel.report.page import environment, safe
from privoxel.report.svg import INK, MEMBER, MUTED, NON_MEMBER, integer_ticks, new_axes, to_svg
from privoxel.store import write_text

WHAT = {
    "table1": "Table 1: attacks on centrally trained networks",
    "table2": "Table 2: attacks by every learner on every other",
    "table3": "Table 3: errors of the networks",
    "table4": "Table 4: errors of the community models",
    "table5": "Table 5: the three sets of features",
    "table6": "Table 6: all pairs, 3D-CNN",
    "table7": "Table 7: all pairs, 2D-slice-mean",
    "fig1": "Figure 1: errors and gradients of members and of others",
    "fig2": "Figure 2: the attack by round",
    "fig3": "Figure 3: private models, error and overfitting",
    "fig4": "Figure 4: ages of the learners",
    "fig5": "Figure 5: test error by round, 2D-slice-mean",
    "fig7": "Figure 7: private models, ε",
    "fig8": "Figure 8: private models, explained variance",
    "appendix-e": "Appendix E: one shadow",
    "all": "The whole paper, measured beside published",
}


def write_reproduction(comparison: Comparison, path: Path, pictures: Sequence[Picture] = ()) -> None:
    """Write the page of ``comparison`` to ``path``; ``pictures`` show the learners' ages."""
    write_text(path, render_reproduction(comparison, pictures))


def render_reproduction(comparison: Comparison, pictures: Sequence[Picture] = ()) -> str:
    """Return the page of a reproduction as the text of one HTML file."""
    drawn = [
        *(_histogram_picture(one, place) for place, one in enumerate(comparison.histograms)),
        *(scatter_picture(one, place) for place, one in enumerate(comparison.scatters)),
        *(_curve_picture(curve, place) for place, curve in enumerate(comparison.curves)),
    ]
    return (
        environment()
        .get_template("reproduction.html.jinja")
        .render(
            comparison=comparison,
            title=WHAT[comparison.what],
            environments=ENVIRONMENTS,
            percent=percent,
            pairs=[
                (
                    one,
                    [heat_map(m, one.learners) for m in (*one.measured, one.published) if m is not None],
                )
                for one in comparison.pairs
            ],
            pictures=[safe(picture) for picture in (*drawn, *pictures)],
            shown_cell=shown_cell,
            of_part=WHAT,
        )
    )


def shown_cell(cell: Metric | str) -> str:
    """Return a table's cell in words: accuracies in percent with their intervals."""
    return cell if isinstance(cell, str) else percent(cell)


def scatter_picture(scatter: Scatter, place: int) -> Picture:
    """Return a figure of points, ours in colour with bars, the paper's in grey."""
    figure, axes = new_axes(3.2)
    legend = []
    marks: dict[str, str] = {}
    for series in scatter.series:
        network = series.name.split(",")[0]
        mark = marks.setdefault(network, "os"[len(marks) % 2])
        colour, filled = (MUTED, False) if series.is_published else (MEMBER, True)
        face = colour if filled else "none"
        axes.plot(series.x, series.y, mark, color=colour, markerfacecolor=face, markersize=5 if filled else 4)
        if series.low and series.high:
            axes.vlines(series.x, series.low, series.high, color=colour, linewidth=1)
        shape = "dot" if mark == "o" else "square"
        legend.append(Key(f"{shape}-member" if filled else f"{shape}-open", series.name))
    for line in scatter.lines:
        y = [line.intercept + line.slope * x for x in line.x]
        axes.plot(line.x, y, color=MUTED if line.is_published else MEMBER, linewidth=1.4)
        legend.append(Key("line-muted" if line.is_published else "line-member", line.name))
    if "accuracy" in scatter.y_label:
        axes.axhline(50, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
        legend.append(Key("guess", "guessing"))
    axes.set_xlabel(scatter.x_label)
    axes.set_ylabel(scatter.y_label)
    counts = ", ".join(f"{len(one.x)} of {one.name}" for one in scatter.series)
    label = f"{scatter.title}: {scatter.y_label} against {scatter.x_label}; {counts}."
    svg = to_svg(figure, key=f"scatter{place}", label=label)
    return Picture(svg, scatter.title, scatter.caption, tuple(legend))


def _histogram_picture(histograms: Histograms, place: int) -> Picture:
    figure, axes = new_axes(2.9)
    for shares, colour in ((histograms.non_members, NON_MEMBER), (histograms.members, MEMBER)):
        axes.stairs(shares, histograms.edges, color=colour, linewidth=1.6, fill=False)
    axes.set_xlabel(histograms.x_label)
    axes.set_ylabel("share of the scans")
    label = f"{histograms.title}: distributions of {histograms.x_label} of members and non-members."
    svg = to_svg(figure, key=f"histogram{place}", label=label)
    return Picture(svg, histograms.title, histograms.caption, GROUP_KEYS)


def _curve_picture(curve: ComparedCurve, place: int) -> Picture:
    scale = 1.0 if "years" in curve.quantity else 100.0
    figure, axes = new_axes(2.9)
    axes.plot(curve.rounds, [scale * v for v in curve.measured], color=MEMBER, linewidth=2)
    legend = [Key("line-member", "measured here")]
    if curve.published:
        axes.plot(curve.published_rounds, [scale * v for v in curve.published], color=MUTED, linewidth=1.4)
        legend.append(Key("line-muted", "published, its own cohort, widths and rounds"))
    axes.set_xlabel("round")
    axes.set_ylabel(curve.quantity if scale == 1.0 else f"{curve.quantity} (%)")
    integer_ticks(axes)
    last = f"{scale * curve.measured[-1]:.2f}" if curve.measured else "nothing"
    label = f"{curve.quantity} by round for {curve.model}, {curve.environment}; {last} at last."
    return Picture(
        to_svg(figure, key=f"curve{place}", label=label),
        f"{curve.model}, {curve.environment}",
        curve.quantity[:1].upper() + curve.quantity[1:] + ".",
        tuple(legend),
    )
