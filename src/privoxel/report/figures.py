"""The report's charts, each a pure function from results to inline SVG with its words.

One colour is members, one is non-members, grey is everything else; what a colour means is said in
the page's own text under the chart, not inside the picture.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from privoxel.arrays import BoolArray, FloatArray
from privoxel.evaluation.archive import TargetScores
from privoxel.evaluation.metrics import ones_like
from privoxel.evaluation.results import Metric, TrainingPoint
from privoxel.evaluation.roc import roc_curve
from privoxel.evaluation.weighted import weighted_tpr
from privoxel.report.svg import GROUND, INK, MEMBER, MUTED, NON_MEMBER, RULE, new_axes, to_svg


class Key(NamedTuple):
    """One line of a legend: the mark (a style class of the page) and what it stands for."""

    mark: str
    text: str


class Picture(NamedTuple):
    """A chart for the page: ``svg`` with a title, a sentence and a legend around it."""

    svg: str
    title: str
    caption: str
    legend: tuple[Key, ...] = ()


class IntervalRow(NamedTuple):
    """One line of the interval chart."""

    label: str
    auc: Metric | None
    accuracy: Metric | None
    is_primary: bool = False
    is_control: bool = False


GROUP_KEYS = (Key("member", "members (in the training set)"), Key("other", "non-members (never seen)"))


def interval_chart(rows: Sequence[IntervalRow], *, key: str, title: str) -> Picture:
    """Return the chart of AUC and balanced accuracy of every attack, with guessing and the paper's value."""
    figure, axes = new_axes(0.62 + 0.43 * len(rows))
    known = [m for row in rows for m in (row.auc, row.accuracy) if m is not None and m.value is not None]
    lowest = min([0.5, *(m.value if m.low is None else m.low for m in known if m.value is not None)])
    axes.set_xlim(max(0.0, np.floor(lowest * 20) / 20), 1.0)
    axes.set_ylim(len(rows) - 0.47, -0.6)
    for place, row in enumerate(rows):
        _interval_row(axes, place, row)
    _interval_axis(axes)
    has_paper = any(row.accuracy is not None and row.accuracy.paper is not None for row in rows)
    legend = [Key("dot", "AUC"), Key("square", "balanced accuracy"), Key("guess", "guessing")]
    if has_paper:
        legend.append(Key("diamond", "the paper's accuracy, its own cohort"))
    label = "AUC and balanced accuracy with their intervals. " + " ".join(map(_row_in_words, rows))
    caption = f"Bars are {100 * (known[0].level if known else 0.95):g} % intervals."
    if any(row.is_control for row in rows):
        caption += (
            " Checks, in grey, belong on the line of guessing, covariates at their best a little above it."
        )
    return Picture(to_svg(figure, key=key, label=label), title, caption, tuple(legend))


def roc_chart(
    scores: TargetScores, primary: str, rng: np.random.Generator, *, key: str, title: str
) -> Picture:
    """Return the ROC of every attack on log axes, the one named ``primary`` (or the first) with its band.

    ``title`` is what readers call that attack; ``rng`` draws the bootstrap of the band.
    """
    figure, axes = new_axes(3.5)
    shown = primary if primary in scores.evaluated else next(iter(scores.evaluated))
    curve = roc_curve(scores.evaluated[shown], rng)
    others = [e for name, e in scores.evaluated.items() if name != shown]
    lowest = curve.fpr[0]
    axes.axvspan(lowest, min(1.0, 3 * curve.fpr[0]), color=RULE, alpha=0.35, linewidth=0)
    axes.plot([lowest, 1], [lowest, 1], color=INK, linewidth=1, linestyle=(0, (2, 2)))
    for colour, group in ((MUTED, others), (NON_MEMBER, scores.controls.values())):
        for evaluated in group:
            tpr = weighted_tpr(evaluated, ones_like(evaluated), curve.fpr)[0]
            _log_line(axes, curve.fpr, tpr, colour, 0.9)
    axes.fill_between(
        curve.fpr, np.maximum(curve.low, lowest), curve.high, color=MEMBER, alpha=0.22, linewidth=0
    )
    _log_line(axes, curve.fpr, curve.tpr, MEMBER, 2.2)
    _log_axes(axes, lowest)
    legend = [Key("line-member", f"{title} (band: holds the whole curve with {100 * curve.level:g} %)")]
    if others:
        count = "attack" if len(others) == 1 else f"{len(others)} attacks"
        legend.append(Key("line-muted", f"the other {count}"))
    if scores.controls:
        legend.append(Key("line-other", "checks that should guess"))
    legend.append(Key("guess", "guessing"))
    at_tenth = curve.tpr[np.searchsorted(curve.fpr, 0.1 + 1e-9) - 1]
    label = (
        "True-positive rate against false-positive rate on logarithmic axes. "
        f"{title} finds {at_tenth:.0%} of the members at a false-positive rate of 10 %."
    )
    caption = (
        "Members found against non-members wrongly accused. Higher on the left is worse for privacy. "
        f"In the shaded part fewer than 3 of {round(1 / curve.fpr[0])} non-members decide: read nothing "
        "from it."
    )
    return Picture(to_svg(figure, key=key, label=label), "ROC, both axes logarithmic", caption, tuple(legend))


def error_chart(scores: TargetScores, *, key: str) -> Picture:
    """Return the distributions of the signed error (prediction minus age, years)."""
    error = scores.prediction - scores.age
    edges = _edges(error)
    figure, axes = new_axes(2.9)
    _two_histograms(axes, error, scores.members, edges)
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_xlabel("predicted minus true age (years)")
    spread = [_sd(error[scores.members]), _sd(error[~scores.members])]
    label = (
        "Distributions of the prediction error. Standard deviation "
        f"{spread[0]:.1f} years for members and {spread[1]:.1f} years for non-members."
    )
    caption = "A narrow member curve is the trace of memorisation that most attacks follow."
    return Picture(to_svg(figure, key=key, label=label), "Prediction error", caption, GROUP_KEYS)


def gradient_chart(scores: TargetScores, *, key: str) -> Picture | None:
    """Return the distributions of the gradient norm on a log axis; None where none was extracted."""
    usable = np.isfinite(scores.gradient_norm) & (scores.gradient_norm > 0)
    if not (usable & scores.members).any() or not (usable & ~scores.members).any():
        return None
    norms = np.log10(scores.gradient_norm[usable])
    members = scores.members[usable]
    edges = _edges(norms)
    figure, axes = new_axes(2.9)
    _two_histograms(axes, norms, members, edges)
    axes.xaxis.set_major_locator(FixedLocator(list(range(int(norms.min()) - 1, int(norms.max()) + 2))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda power, _: f"{10.0**power:g}"))
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel("norm of the gradient (log axis)")
    medians = [10 ** float(np.median(norms[group])) for group in (members, ~members)]
    label = (
        f"Distributions of the gradient norm. Median {medians[0]:.3g} for members, "
        f"{medians[1]:.3g} for non-members."
    )
    caption = "How strongly one scan would pull on the model's weights; only an insider can see it."
    return Picture(to_svg(figure, key=key, label=label), "Gradient norm", caption, GROUP_KEYS)


def age_chart(scores: TargetScores, *, key: str, most: int = 600, whole_years: bool = False) -> Picture:
    """Return predicted against true age of at most ``most`` scans, in ``whole_years`` for real people."""
    figure, axes = new_axes(3.5)
    drawn = 0
    for group, colour, marker, face in (
        (~scores.members, NON_MEMBER, "s", "none"),
        (scores.members, MEMBER, "o", MEMBER),
    ):
        rows = _thinned(np.flatnonzero(group), most // 2)
        drawn += len(rows)
        x, y = scores.age[rows], scores.prediction[rows]
        if whole_years:
            x, y = np.rint(x), np.rint(y)
        (points,) = axes.plot(x, y, marker, markersize=3.2, alpha=0.6)
        points.set(markerfacecolor=face, markeredgecolor=colour, markeredgewidth=0.7)
    ends = [
        float(min(scores.age.min(), scores.prediction.min())),
        float(max(scores.age.max(), scores.prediction.max())),
    ]
    axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_xlabel("true age (years)")
    axes.set_ylabel("predicted age (years)")
    total = len(scores.age)
    which = f"{drawn} of {total} scans, evenly spaced in the list" if drawn < total else f"All {total} scans"
    rounded = ", rounded to whole years to protect participants" if whole_years else ""
    caption = f"{which}{rounded}. On the dashed line the prediction is exact."
    label = (
        f"Predicted against true age of {drawn} scans; members lie closer to the diagonal where the model "
        "has memorised them."
    )
    legend = (Key("dot-member", GROUP_KEYS[0].text), Key("square-other", GROUP_KEYS[1].text))
    return Picture(to_svg(figure, key=key, label=label), "Predicted and true age", caption, legend)


def training_chart(points: Sequence[TrainingPoint], null: float, *, key: str) -> Picture | None:
    """Return the mean absolute error by epoch (years); None without a recorded curve."""
    if not points:
        return None
    figure, axes = new_axes(2.9)
    axes.plot(
        [p.epoch for p in points],
        [p.train_mae for p in points],
        color=MEMBER,
        linewidth=2,
        marker=_dot(points),
    )
    validated = [p for p in points if p.validation_mae is not None]
    legend = [Key("line-member", "training set")]
    if validated:
        epochs = [p.epoch for p in validated]
        values = np.array([p.validation_mae for p in validated], dtype=np.float64)
        axes.plot(epochs, values, color=NON_MEMBER, linewidth=2, marker=_dot(validated))
        legend.append(Key("line-other", "validation set"))
    axes.axhline(null, color=INK, linewidth=1, linestyle=(0, (2, 2)))
    legend.append(Key("guess", f"predicting the mean age ({null:.1f} years)"))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean absolute error (years)")
    last = points[-1]
    label = (
        f"Mean absolute error by epoch; {last.train_mae:.1f} years on the training set at epoch {last.epoch}."
    )
    caption = "The distance between the two lines at the end is the overfitting an attack can use."
    if not validated:
        caption = "No validation set was followed during training."
    return Picture(to_svg(figure, key=key, label=label), "Training curve", caption, tuple(legend))


def _interval_row(axes: Axes, place: int, row: IntervalRow) -> None:
    strong, weak = (MUTED, MUTED) if row.is_control else (MEMBER, INK)
    label = f"{row.label} (primary)" if row.is_primary else row.label
    left = axes.get_xlim()[0]
    axes.plot(
        [0.5, 0.5], [place - 0.06, place + 0.44], color=INK, linewidth=1, linestyle=(0, (2, 2)), zorder=1
    )
    weight = "bold" if row.is_primary else "normal"
    text = axes.text(left, place - 0.28, _clipped(label), color=INK, va="center", weight=weight)
    text.set(parse_math=False, fontsize=11)
    axes.axhline(place + 0.5, color=RULE, linewidth=0.6)
    if row.auc is not None:
        _interval(axes, place + 0.06, row.auc, strong, "o")
    if row.accuracy is not None:
        _interval(axes, place + 0.3, row.accuracy, weak, "s")
        if row.accuracy.paper is not None:
            (diamond,) = axes.plot([row.accuracy.paper], [place + 0.3], "D", markersize=5.5, zorder=4)
            diamond.set(markerfacecolor=GROUND, markeredgecolor=NON_MEMBER, markeredgewidth=1.4)


def _interval(axes: Axes, height: float, metric: Metric, colour: str, marker: str) -> None:
    if metric.value is None:
        return
    width, size = (2.4, 6.5) if marker == "o" else (1.2, 4)
    if metric.low is not None and metric.high is not None:
        axes.plot(
            [metric.low, metric.high], [height, height], color=colour, linewidth=width, alpha=0.6, zorder=2
        )
    (point,) = axes.plot([metric.value], [height], marker, color=colour, zorder=3)
    point.set(markersize=size, markeredgewidth=0, clip_on=False)


def _interval_axis(axes: Axes) -> None:
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.xaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1f}"))
    axes.set_xlabel("0.5 = guessing · 1.0 = always right")


def _row_in_words(row: IntervalRow) -> str:
    parts = []
    for name, metric in (("AUC", row.auc), ("accuracy", row.accuracy)):
        if metric is not None and metric.value is not None:
            parts.append(f"{name} {metric.value:.2f}")
    return f"{row.label}: {', '.join(parts) or 'not measured'}."


def _log_line(axes: Axes, fpr: FloatArray, tpr: FloatArray, colour: str, width: float) -> None:
    visible = tpr > 0
    axes.plot(fpr[visible], tpr[visible], color=colour, linewidth=width, drawstyle="steps-post")


def _log_axes(axes: Axes, lowest: float) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(lowest, 1)
    axes.set_ylim(lowest, 1.02)
    ticks = [tick for tick in (0.0001, 0.001, 0.01, 0.05, 0.1, 0.5, 1.0) if tick >= lowest]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_xlabel("false-positive rate")
    axes.set_ylabel("true-positive rate")


def _edges(values: FloatArray) -> FloatArray:
    lower, upper = np.percentile(values, (25, 75))
    reach = 4 * (upper - lower)  # one scan far out must not squeeze the rest
    low, high = max(values.min(), lower - reach), min(values.max(), upper + reach)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, 41)


def _two_histograms(axes: Axes, values: FloatArray, members: BoolArray, edges: FloatArray) -> None:
    clipped = np.clip(values, edges[0], edges[-1])
    for group, colour, alpha in ((~members, NON_MEMBER, 0.10), (members, MEMBER, 0.22)):
        share = np.histogram(clipped[group], edges)[0] / max(1, int(group.sum()))
        axes.stairs(share, edges, color=colour, fill=True, alpha=alpha, linewidth=0)
        axes.stairs(share, edges, color=colour, linewidth=1.6)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_ylabel("share of the group")
    axes.set_ylim(bottom=0)


def _thinned(rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]


def _sd(values: FloatArray) -> float:
    return float(values.std()) if len(values) else 0.0


def _dot(points: Sequence[TrainingPoint]) -> str:
    return "o" if len(points) == 1 else ""


def _clipped(text: str, most: int = 52) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
