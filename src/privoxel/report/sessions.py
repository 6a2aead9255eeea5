"""The report's part on other scans: how much of the leak is left when the adversary lacks the very scan."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.ticker import FixedLocator, FuncFormatter

from privoxel.evaluation.results import Metric, OtherScans, Results, Target
from privoxel.report.figures import Key, Picture
from privoxel.report.svg import INK, MEMBER, NON_MEMBER, RULE, new_axes, to_svg
from privoxel.report.tables import Cell, Footnotes, metric_cell
from privoxel.report.wording import trained_sessions_in_words


class OtherRow(NamedTuple):
    """One attack on one target, with the trained-on scans and with other scans of the same people."""

    title: str
    where: str
    is_primary: bool
    trained_on: Cell
    other_scan: Cell
    share: Cell
    sizes: str


class SessionPart(NamedTuple):
    """Everything the page says about other scans."""

    sentence: str
    trained: list[str]
    picture: Picture | None
    rows: list[OtherRow]
    footnotes: list[tuple[str, str]]


def session_part(results: Results) -> SessionPart | None:
    """Return the part on other scans; None where no attack was run on any."""
    shown = [(target, one) for target in results.targets for one in target.other_scans]
    if not shown:
        return None
    primary, footnotes = results.verdict.primary_attack, Footnotes()
    rows = [_row(target, one, primary, footnotes) for target, one in shown]
    first = next((one for _, one in shown if one.name == primary), shown[0][1])
    measured = [(target, one) for target, one in shown if one.other_scan.value is not None]
    labelled = [(f"{one.title} · {target.name}", one) for target, one in measured]
    chart = session_chart(labelled) if labelled else None
    return SessionPart(_sentence(first), _trained(results.targets), chart, rows, footnotes.lines())


def _trained(targets: Sequence[Target]) -> list[str]:
    """Return which sessions counted as trained on, of each target where they differ."""
    said = {
        one.name: trained_sessions_in_words(one.trained_sessions) for one in targets if one.trained_sessions
    }
    different = list(dict.fromkeys(said.values()))
    return different if len(different) < 2 else [f"{name}: {words}" for name, words in said.items()]


def _row(target: Target, one: OtherScans, primary: str, footnotes: Footnotes) -> OtherRow:
    return OtherRow(
        one.title,
        f"{target.name} · {one.threat_model}",
        one.name == primary,
        metric_cell("auc", one.trained_on, footnotes),
        metric_cell("auc", one.other_scan, footnotes),
        _share(one.share, footnotes),
        f"{one.n_members} + {one.n_non_members}",
    )


def _share(share: Metric, footnotes: Footnotes) -> Cell:
    cell = metric_cell("tpr", share, footnotes)
    if share.value is None or share.low is None or share.high is None:
        return cell
    return Cell(f"{100 * share.value:.0f} %", f"{100 * share.low:.0f} to {100 * share.high:.0f}")


def _sentence(one: OtherScans) -> str:
    if one.other_scan.value is None:
        return (
            f"What another scan of the same people gives away to the attack “{one.title}” could not be "
            f"measured: {one.other_scan.reason}."
        )
    first, second = (f"{100 * (metric.value or 0.5):.0f} %" for metric in (one.trained_on, one.other_scan))
    text = (
        f"With the very scans that trained the model, the attack “{one.title}” ranks a member above a "
        f"non-member {first} of the time; with another scan of the same people, {second}."
    )
    if not one.are_alike:
        reached = f"{100 * (one.covariates.value or 0.5):.0f} %"
        return (
            f"{text} Age, sex and site alone reach {reached} on these people, so that neither is evidence of "
            "a leak by itself: --match age,sex,site compares people who are alike."
        )
    low = one.other_scan.low
    if low is not None and low > 0.5:
        return f"{text} Membership shows in a scan that the model never saw."
    return f"{text} That a scan the model never saw gives members away is not shown."


def session_chart(rows: Sequence[tuple[str, OtherScans]]) -> Picture:
    """Return the AUC with the trained-on scans and with other scans, one line an attack and target."""
    figure, axes = new_axes(0.62 + 0.43 * len(rows))
    ends = [m for _, one in rows for m in (one.trained_on, one.other_scan)]
    lowest = min([0.45, *(m.low for m in ends if m.low is not None)])
    axes.set_xlim(max(0.0, lowest), 1.0)
    axes.set_ylim(len(rows) - 0.47, -0.6)
    for place, (label, one) in enumerate(rows):
        text = axes.text(axes.get_xlim()[0], place - 0.28, _clipped(label), color=INK, va="center")
        text.set(parse_math=False, fontsize=11)
        axes.axhline(place + 0.5, color=RULE, linewidth=0.6)
        axes.plot(
            [0.5, 0.5], [place - 0.06, place + 0.44], color=INK, linewidth=1, linestyle=(0, (2, 2)), zorder=1
        )
        for height, metric, colour, marker in (
            (place + 0.06, one.trained_on, MEMBER, "o"),
            (place + 0.3, one.other_scan, NON_MEMBER, "s"),
        ):
            if metric.value is None:
                continue
            if metric.low is not None and metric.high is not None:
                axes.plot([metric.low, metric.high], [height, height], color=colour, linewidth=2.2, alpha=0.6)
            (point,) = axes.plot([metric.value], [height], marker, color=colour)
            point.set(markersize=6, markeredgewidth=0, clip_on=False)
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.xaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1f}"))
    axes.set_xlabel("AUC: 0.5 = guessing · 1.0 = always right")
    label = "AUC with the trained-on and with other scans. " + " ".join(map(_in_words, rows))
    legend = (
        Key("dot", "the scan that trained the model"),
        Key("filled-other", "another scan of the same person"),
        Key("guess", "guessing"),
    )
    caption = (
        "Bars are 95 % intervals. The lower line of a pair is what an outsider reaches with a scan of their "
        "own."
    )
    title = "The same attack with another scan of the person"
    return Picture(to_svg(figure, key="sessions", label=label), title, caption, legend)


def _in_words(row: tuple[str, OtherScans]) -> str:
    label, one = row
    values = " and ".join(
        "not measured" if metric.value is None else f"{metric.value:.2f}"
        for metric in (one.trained_on, one.other_scan)
    )
    return f"{label}: {values}."


def _clipped(text: str, most: int = 52) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
