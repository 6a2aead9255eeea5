"""The ages of each learner of a federation, one above the other, with those of the unseen set."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from privoxel.arrays import FloatArray
from privoxel.report.figures import Key, Picture
from privoxel.report.svg import INK, MEMBER, MUTED, NON_MEMBER, RULE, new_axes, to_svg

BIN_YEARS = 2.0
TALLEST = 0.78  # of the distance between two rows


def ages_by_learner_chart(ages: Mapping[str, FloatArray], unseen: FloatArray, *, key: str) -> Picture:
    """Return the age distribution of every learner, each over the outline of the unseen set's.

    Beside each are participants, mean and SD in years, as in Gupta et al. 2021, Fig. 4.

    Args:
        ages: the ages of each learner's participants, in years, by learner.
        unseen: the ages of the participants that no learner sees; may be empty.
        key: makes the figure's ids unique on a page.
    """
    everyone = np.concatenate([*ages.values(), unseen])
    edges = _edges(everyone)
    shares = {name: _share(values, edges) for name, values in ages.items()}
    reference = _share(unseen, edges)
    highest = max(float(share.max()) for share in (*shares.values(), reference))
    rows = len(ages) + (1 if unseen.size else 0)
    figure, axes = new_axes(0.75 + 0.5 * rows)
    for place, (name, values) in enumerate(ages.items()):
        _ridge(axes, place, shares[name] / highest, edges, MEMBER)
        if unseen.size:
            _outline(axes, place, reference / highest, edges)
        _label(axes, place, name, values)
    if unseen.size:
        _ridge(axes, len(ages), reference / highest, edges, NON_MEMBER)
        _label(axes, len(ages), "unseen", unseen)
    _frame(axes, rows, edges)
    legend = [Key("member", "participants of the learner")]
    if unseen.size:
        legend.append(Key("other", "unseen participants (outline: the same, for comparison)"))
    words = [_in_words(name, values) for name, values in ages.items()]
    words += [_in_words("unseen", unseen)] if unseen.size else []
    label = f"Ages of {len(ages)} learners. {' '.join(words)}"
    caption = (
        "Share of each group by age, all to one scale. Where a learner's ages differ from those of the "
        "unseen, an attack can tell its participants by age alone."
    )
    return Picture(to_svg(figure, key=key, label=label), "Ages by learner", caption, tuple(legend))


def _edges(ages: FloatArray) -> FloatArray:
    low = BIN_YEARS * np.floor(ages.min() / BIN_YEARS)
    bins = int(np.floor((ages.max() - low) / BIN_YEARS)) + 1
    return low + BIN_YEARS * np.arange(bins + 1)


def _share(ages: FloatArray, edges: FloatArray) -> FloatArray:
    return np.histogram(ages, edges)[0] / max(1, ages.size)


def _ridge(axes: Axes, place: int, heights: FloatArray, edges: FloatArray, colour: str) -> None:
    top = place - TALLEST * heights
    axes.stairs(top, edges, baseline=place, fill=True, color=colour, alpha=0.3, linewidth=0)
    axes.stairs(top, edges, baseline=place, color=colour, linewidth=1.3)
    axes.plot([edges[0], edges[-1]], [place, place], color=RULE, linewidth=0.8, zorder=1)


def _outline(axes: Axes, place: int, heights: FloatArray, edges: FloatArray) -> None:
    line = axes.stairs(place - TALLEST * heights, edges, baseline=None, color=NON_MEMBER, linewidth=0.9)
    line.set_linestyle((0, (3, 2)))


def _label(axes: Axes, place: int, name: str, ages: FloatArray) -> None:
    shown = name if len(name) <= 14 else f"{name[:13].rstrip()}…"
    _beside(axes, place, shown, -6.0, INK, 11.0)
    _beside(axes, place - 0.4, f"n = {ages.size:,}", 6.0, INK, 10.0)
    _beside(axes, place + 0.02, f"{ages.mean():.1f} ({ages.std():.1f})", 6.0, MUTED, 10.0)


def _beside(axes: Axes, height: float, text: str, points: float, colour: str, size: float) -> None:
    """Write ``text`` outside the axes: on the left for negative ``points``, else on the right."""
    side, align = (0.0, "right") if points < 0 else (1.0, "left")
    written = axes.annotate(
        text,
        (side, height),
        xycoords=axes.get_yaxis_transform(),
        xytext=(points, 0.0),
        textcoords="offset points",
        annotation_clip=False,
    )
    written.set(color=colour, ha=align, va="bottom", fontsize=size, parse_math=False)


def _frame(axes: Axes, rows: int, edges: FloatArray) -> None:
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(rows - 0.9, -0.95)
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    step = 10.0 if edges[-1] - edges[0] > 25 else 5.0
    axes.xaxis.set_major_locator(
        FixedLocator(np.arange(step * np.ceil(edges[0] / step), edges[-1] + 0.1, step).tolist())
    )
    axes.set_xlabel("age (years); at the right participants, mean (SD)")


def _in_words(name: str, ages: FloatArray) -> str:
    return f"{name}: {ages.size} participants of mean age {ages.mean():.1f}, SD {ages.std():.1f} years."
