"""The pictures of a frontier, each a pure function from results to inline SVG with its words."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from privoxel.evaluation.frontier_results import Front, FrontierPoint, FrontierResults, OverfittingLine
from privoxel.evaluation.overfitting import LARGEST_PUBLISHED_GAP, PUBLISHED
from privoxel.evaluation.results import Metric
from privoxel.report.figures import Key, Picture
from privoxel.report.svg import GROUND, INK, MEMBER, MUTED, NON_MEMBER, RULE, new_axes, to_svg

GUESSING = 50.0
TALL = 3.9
BLACK_BOX = "black-box"


def reached(point: FrontierPoint, adversary: str, metric: str) -> Metric:
    """Return what the best attack of ``adversary`` reaches on ``point``."""
    found = next(one for one in point.vulnerability if one.adversary == adversary)
    return found.auc if metric == "auc" else found.accuracy


def front_picture(front: Front, results: FrontierResults, numbers: Mapping[str, int]) -> Picture:
    """Return vulnerability against test error, the frontier as steps, every setting with its number."""
    figure, axes = new_axes(TALL)
    names, name = set(front.names), "AUC" if results.metric == "auc" else "balanced accuracy"
    judged = [point for point in results.points if point.name not in front.left_out]
    for point in judged:
        metric = reached(point, front.adversary, results.metric)
        is_front = point.name in names
        _cross(axes, point.mae, metric, MEMBER if is_front else MUTED)
        _dot(
            axes, point.mae.value, 100 * (metric.value or 0.0), MEMBER if is_front else MUTED, filled=is_front
        )
        _number(axes, point.mae.value, 100 * (metric.value or 0.0), numbers[point.name])
    corners = [next(point for point in results.points if point.name == one) for one in front.names]
    values = [100 * (reached(point, front.adversary, results.metric).value or 0.0) for point in corners]
    axes.plot(
        [point.mae.value or 0.0 for point in corners],
        values,
        color=MEMBER,
        linewidth=1.2,
        drawstyle="steps-post",
    )
    axes.axhline(GUESSING, color=INK, linewidth=1, linestyle=(0, (2, 2)))
    legend = [
        Key("dot", "not dominated: no other setting is better in both"),
        Key("ring", "the others; crosses are 95 % intervals"),
        Key("guess", "guessing"),
    ]
    limit = next((p.mae.value for p in results.points if p.name == results.reference), None)
    if limit is not None:
        axes.axvline((1 + results.tolerated_loss) * limit, color=RULE, linewidth=1.4)
        legend.append(
            Key("line-muted", f"{100 * results.tolerated_loss:g} % more error than {results.reference}")
        )
    axes.set_xlabel("MAE on people never seen (years)")
    axes.set_ylabel(f"best attack, {name} (%)")
    label = (
        f"{name} of the best {front.adversary} attack against the test error of {len(judged)} "
        f"settings. Not dominated: {', '.join(front.names)}."
    )
    caption = "Down and to the left is better. Numbers are those of the table."
    title = f"{front.adversary.capitalize()} adversary"
    key = f"front-{front.adversary.split(maxsplit=1)[0]}"
    return Picture(to_svg(figure, key=key, label=label), title, caption, tuple(legend))


def line_picture(line: OverfittingLine, results: FrontierResults, numbers: Mapping[str, int]) -> Picture:
    """Return accuracy against the gap of every setting, the fitted line with its band, and the paper's."""
    figure, axes = new_axes(TALL)
    gaps = [point.gap if line.adversary == BLACK_BOX else point.model_gap for point in results.points]
    for point, gap in zip(results.points, gaps, strict=True):
        _cross(axes, gap, point.primary, MUTED)
        _dot(axes, gap.value, 100 * (point.primary.value or 0.0), MEMBER, filled=True)
        _number(axes, gap.value, 100 * (point.primary.value or 0.0), numbers[point.name])
    values = [gap.value or 0.0 for gap in gaps]
    band, ends = line.band, np.array([min(*values, 0.0), max(values)])
    low, high = 100 * np.array(band.low), 100 * np.array(band.high)
    axes.fill_between(band.gaps, low, high, color=MEMBER, alpha=0.15, linewidth=0)
    mean = 100 * ((line.intercept.value or 0.0) + (line.slope.value or 0.0) * ends)
    axes.plot(ends, mean, color=MEMBER, linewidth=2)
    paper, known = PUBLISHED["all"], np.linspace(0.0, LARGEST_PUBLISHED_GAP, 2)
    axes.plot(known, 100 * (paper.intercept + paper.slope * known), color=NON_MEMBER, linewidth=1.4)
    axes.axhline(GUESSING, color=INK, linewidth=1, linestyle=(0, (2, 2)))
    axes.set_xlabel("test minus training MAE (years)")
    axes.set_ylabel("balanced accuracy (%)")
    label = (
        f"Accuracy of {line.title} against the gap of {line.models} settings; at no gap "
        f"{100 * (line.intercept.value or 0.0):.1f} %, "
        f"rising {100 * (line.slope.value or 0.0):.1f} points a year."
    )
    legend = (
        Key("line-member", "fitted here (band: 95 %, over settings and participants)"),
        Key("line-other", "Gupta et al. 2021, over the gaps of their 26 private models"),
        Key("guess", "guessing"),
    )
    caption = (
        f"“{line.title}”, which was fixed beforehand: the best of many would lie above 50 % without a leak."
    )
    return Picture(
        to_svg(figure, key="overfitting", label=label), "Overfitting and vulnerability", caption, legend
    )


def epsilon_pictures(
    private: Sequence[FrontierPoint], results: FrontierResults, numbers: Mapping[str, int]
) -> list[Picture]:
    """Return error and vulnerability against ε, and ε from both sides; none without private settings."""
    finite = [point for point in private if point.privacy is not None and point.privacy.upper is not None]
    if not finite:
        return []
    ordered = sorted(finite, key=_upper)
    pictures = [_against_epsilon(ordered, results, numbers, "mae", BLACK_BOX)]
    adversaries = [one.adversary for one in ordered[0].vulnerability]
    left_out = {front.adversary: front.left_out for front in results.fronts}
    for adversary in adversaries:
        judged = [point for point in ordered if point.name not in left_out.get(adversary, ())]
        if judged:
            pictures.append(_against_epsilon(judged, results, numbers, "attack", adversary))
    pictures.append(_two_sides(ordered, numbers))
    return pictures


def _upper(point: FrontierPoint) -> float:
    assert point.privacy is not None  # noqa: S101 - the caller's choice
    return point.privacy.upper or 0.0


def _against_epsilon(
    points: Sequence[FrontierPoint],
    results: FrontierResults,
    numbers: Mapping[str, int],
    what: str,
    adversary: str,
) -> Picture:
    figure, axes = new_axes(3.2)
    is_error = what == "mae"
    scale = 1.0 if is_error else 100.0

    def metric(point: FrontierPoint) -> Metric:
        return point.mae if is_error else reached(point, adversary, results.metric)

    for point in points:
        one = metric(point)
        _bar(axes, _upper(point), one, scale)
        _dot(axes, _upper(point), scale * (one.value or 0.0), MEMBER, filled=True)
        _number(axes, _upper(point), scale * (one.value or 0.0), numbers[point.name])
    reference = next((point for point in results.points if point.name == results.reference), None)
    if reference is not None:
        axes.axhline(scale * (metric(reference).value or 0.0), color=NON_MEMBER, linewidth=1.4)
    axes.axhline(points[0].null_mae if is_error else GUESSING, color=INK, linewidth=1, linestyle=(0, (2, 2)))
    _log_axis(axes, [_upper(point) for point in points])
    axes.set_xlabel("ε at most, by the accountant (log axis)")
    name = "AUC" if results.metric == "auc" else "balanced accuracy"
    axes.set_ylabel("MAE on people never seen (years)" if is_error else f"best attack, {name} (%)")
    title = "Error against ε" if is_error else f"Vulnerability against ε, {adversary}"
    legend = (
        Key("dot", "private settings, 95 % intervals"),
        Key("line-other", f"{results.reference}: no guarantee"),
        Key("guess", "predicting the mean age" if is_error else "guessing"),
    )
    label = f"{title}: " + ", ".join(
        f"{scale * (metric(p).value or 0.0):.1f} at {_upper(p):.3g}" for p in points
    )
    key = f"epsilon-{what}-{adversary.split(maxsplit=1)[0]}"
    return Picture(
        to_svg(figure, key=key, label=label), title, "Further left the guarantee is stronger.", legend
    )


def _two_sides(points: Sequence[FrontierPoint], numbers: Mapping[str, int]) -> Picture:
    figure, axes = new_axes(0.8 + 0.34 * len(points))
    lowest = 0.5 * min(*(_upper(point) for point in points), 0.2)
    for place, point in enumerate(points):
        assert point.privacy is not None  # noqa: S101 - the caller's choice
        lower = point.privacy.lower
        axes.plot([max(lower, lowest), _upper(point)], [place, place], color=RULE, linewidth=5)
        _dot(axes, _upper(point), place, MEMBER, filled=True)
        if lower > 0.0:
            _dot(axes, max(lower, lowest), place, NON_MEMBER, filled=False)
    axes.set_yticks(range(len(points)), [f"{numbers[point.name]}" for point in points])
    axes.set_ylabel("setting")
    _log_axis(axes, [lowest, *(_upper(point) for point in points)])
    axes.set_xlabel("ε (log axis)")
    level = points[0].privacy.level if points[0].privacy is not None else 0.95
    label = (
        "Lower bound of ε that an attack shows, and upper bound by the accountant, of every private setting."
    )
    caption = (
        f"An attack that was fixed beforehand shows at least the lower end ({100 * level:g} % for all "
        "settings at once; a bar without it starts at the axis: nothing was shown)."
    )
    legend = (Key("dot", "at most, by the accountant"), Key("ring-other", "at least, by the attack"))
    return Picture(to_svg(figure, key="epsilon-sides", label=label), "ε from both sides", caption, legend)


def _log_axis(axes: Axes, values: Sequence[float]) -> None:
    axes.set_xscale("log")
    low, high = np.floor(np.log10(min(values))), np.ceil(np.log10(max(values)))
    step = max(1, int((high - low) // 6))
    axes.set_xlim(10 ** (np.log10(min(values)) - 0.15), 10 ** (np.log10(max(values)) + 0.15))
    axes.xaxis.set_major_locator(FixedLocator([10.0**k for k in range(int(low), int(high) + 1, step)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _cross(axes: Axes, across: Metric, up: Metric, colour: str) -> None:
    if across.low is not None and across.high is not None and up.value is not None:
        axes.plot([across.low, across.high], [100 * up.value] * 2, color=colour, linewidth=0.9, alpha=0.5)
    if across.value is not None:
        _bar(axes, across.value, up, 100.0, colour)


def _bar(axes: Axes, place: float, metric: Metric, scale: float, colour: str = MEMBER) -> None:
    if metric.low is not None and metric.high is not None:
        axes.plot(
            [place] * 2, [scale * metric.low, scale * metric.high], color=colour, linewidth=0.9, alpha=0.5
        )


def _dot(axes: Axes, across: float | None, up: float, colour: str, *, filled: bool) -> None:
    (mark,) = axes.plot([across or 0.0], [up], "o", markersize=5.5, zorder=3)
    mark.set(markerfacecolor=colour if filled else GROUND, markeredgecolor=colour, markeredgewidth=1.2)


def _number(axes: Axes, across: float | None, up: float, number: int) -> None:
    text = axes.annotate(
        str(number), (across or 0.0, up), xytext=(4, 3), textcoords="offset points", fontsize=9
    )
    text.set(color=INK, zorder=4)
