"""The page of a reproduction: the paper's numbers and ours side by side, each attack with its control."""

from collections.abc import Sequence
from pathlib import Path

from privoxel.evaluation.reproduction_results import ComparedCurve, Comparison
from privoxel.report.federation import ENVIRONMENTS, heat_map, percent
from privoxel.report.figures import Key, Picture
from privoxel.report.page import environment, safe
from privoxel.report.svg import MEMBER, MUTED, integer_ticks, new_axes, to_svg
from privoxel.store import write_text

WHAT = {
    "table2": "Table 2: attacks by every learner on every other",
    "table4": "Table 4: errors of the community models",
    "table5": "Table 5: the three sets of features",
    "table6": "Table 6: all pairs, 3D-CNN",
    "table7": "Table 7: all pairs, 2D-slice-mean",
    "fig2": "Figure 2: the attack by round",
    "fig4": "Figure 4: ages of the learners",
    "fig5": "Figure 5: test error by round, 2D-slice-mean",
    "all": "Federations: tables 2 and 4 to 7, figures 2, 4 and 5",
}


def write_reproduction(comparison: Comparison, path: Path, pictures: Sequence[Picture] = ()) -> None:
    """Write the page of ``comparison`` to ``path``; ``pictures`` show the learners' ages."""
    write_text(path, render_reproduction(comparison, pictures))


def render_reproduction(comparison: Comparison, pictures: Sequence[Picture] = ()) -> str:
    """Return the page of a reproduction as the text of one HTML file."""
    curves = [_curve_picture(curve, place) for place, curve in enumerate(comparison.curves)]
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
            pictures=[safe(picture) for picture in (*curves, *pictures)],
        )
    )


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
