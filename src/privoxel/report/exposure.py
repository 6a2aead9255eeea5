"""The report's part on people: how exposed they are, in groups large enough to hide anyone.

Everything here comes from ``RiskSummary`` and the metrics; who is who is not in the results at all.
"""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.ticker import FixedLocator, FuncFormatter

from privoxel.evaluation.results import PRECISION, Driver, GroupLine, Metric, Results, RiskSummary, Target
from privoxel.report.figures import Key, Picture
from privoxel.report.svg import INK, MEMBER, RULE, new_axes, to_svg
from privoxel.report.tables import DASH, Cell, Footnotes, metric_cell, signed

MOST_GROUPS = 10
"""Groups shown at once; the others are folded away."""


class PrecisionRow(NamedTuple):
    """How often a call is right where ``prevalence`` of those tested are members, and the same in people."""

    prevalence: str
    precision: Cell
    meaning: str


class AboveRow(NamedTuple):
    """The share of members and of non-members whom the adversary would name with so much certainty."""

    limit: str
    members: Cell
    non_members: Cell


class DriverRow(NamedTuple):
    """What goes with the exposure, in words."""

    title: str
    measure: str
    estimate: Cell
    reading: str
    participants: int


class RiskPart(NamedTuple):
    """Everything the page says about the people of one model."""

    summary: RiskSummary
    attack: str
    sentence: str
    picture: Picture | None
    above: list[AboveRow]
    groups: list[tuple[GroupLine, Cell]]
    more_groups: list[tuple[GroupLine, Cell]]
    spread: str
    drivers: list[DriverRow]
    footnotes: list[tuple[str, str]]


def risk_parts(results: Results) -> list[RiskPart]:
    """Return the part of every model, in the order of the results."""
    return [_part(one, results, place) for place, one in enumerate(results.risk)]


def _part(summary: RiskSummary, results: Results, place: int) -> RiskPart:
    footnotes = Footnotes()
    titles = {a.name: a.title for target in results.targets for a in target.attacks}
    exposed_first = sorted(summary.groups, key=lambda line: -line.probability)
    return RiskPart(
        summary=summary,
        attack=titles.get(summary.attack, summary.attack),
        sentence=_sentence(summary),
        picture=reliability_chart(summary, key=f"reliability{place}") if summary.reliability else None,
        above=_above(summary, footnotes),
        groups=[(line, _probability(line)) for line in exposed_first[:MOST_GROUPS]],
        more_groups=[(line, _probability(line)) for line in exposed_first[MOST_GROUPS:]],
        spread=_spread(exposed_first),
        drivers=[_driver(one, footnotes) for one in summary.drivers],
        footnotes=footnotes.lines(),
    )


def _sentence(summary: RiskSummary) -> str:
    if summary.mean_members is None or summary.mean_non_members is None:
        return f"No probability is given: {summary.reason}."
    text = (
        f"To a member the adversary assigns a membership probability of {_percent(summary.mean_members)} on "
        f"average, to a non-member {_percent(summary.mean_non_members)}; without any leak both would be 50 %."
    )
    if summary.sd_over_targets is not None:
        text += (
            f" When another model is trained on the same person, the probability differs by "
            f"{100 * summary.sd_over_targets:.0f} points (SD)."
        )
    return text


def _spread(exposed_first: Sequence[GroupLine]) -> str:
    """Return whether any group stands out: whether the first one's interval clears the last one's."""
    if len(exposed_first) < 2:
        return ""
    if exposed_first[0].low > exposed_first[-1].high:
        return "The most and the least exposed groups differ by more than their intervals."
    return "No group stands out: even the intervals of the first and the last overlap."


def _above(summary: RiskSummary, footnotes: Footnotes) -> list[AboveRow]:
    members, others = (summary.above.get(group, {}) for group in ("members", "non_members"))
    return [
        AboveRow(
            f"above {100 * float(limit):g} %",
            *(_share(group[limit], footnotes) for group in (members, others)),
        )
        for limit in members
        if limit in others
    ]


def _share(metric: Metric, footnotes: Footnotes) -> Cell:
    return metric_cell("tpr", metric, footnotes)


def _probability(line: GroupLine) -> Cell:
    return Cell(_percent(line.probability), f"{100 * line.low:.0f}–{100 * line.high:.0f}")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"


def _driver(driver: Driver, footnotes: Footnotes) -> DriverRow:
    estimate = driver.estimate
    if estimate.value is None:
        cell = Cell(DASH, note=footnotes.mark(estimate.reason))
        return DriverRow(driver.title, driver.measure, cell, "", driver.participants)
    scale, digits, unit = (1, 2, "") if driver.measure == "rank correlation" else (100, 0, " points")
    value, low, high = (
        None if end is None else signed(scale * end, digits)
        for end in (estimate.value, estimate.low, estimate.high)
    )
    cell = Cell(f"{value}{unit}", "" if low is None or high is None else f"{low} to {high}")
    return DriverRow(driver.title, driver.measure, cell, _reading(driver), driver.participants)


def _reading(driver: Driver) -> str:
    low, high = driver.estimate.low, driver.estimate.high
    if low is None or high is None:
        return ""
    if low > 0:
        return "more exposed" if driver.measure != "rank correlation" else "the larger, the more exposed"
    if high < 0:
        return "less exposed" if driver.measure != "rank correlation" else "the larger, the less exposed"
    return "no clear relation"


def precision_rows(target: Target, primary: str) -> list[PrecisionRow]:
    """Return how often a call of the attack named ``primary`` is right, at every stated prevalence."""
    attack = next((one for one in target.attacks if one.name == primary), None)
    found = []
    for name, metric in attack.metrics.items() if attack is not None else ():
        if not name.startswith(PRECISION):
            continue
        prevalence = float(name.removeprefix(PRECISION))
        meaning = "" if metric.value is None else _in_people(metric.value)
        cell = metric_cell(name, metric, Footnotes())
        found.append(PrecisionRow(f"{100 * prevalence:g} of 100 people", cell, meaning or metric.reason))
    return found


def _in_people(precision: float) -> str:
    people, shown = (100, "100") if precision >= 0.01 else (10_000, "10,000")
    return f"of {shown} people named, about {people * precision:.0f} would be members"


def reliability_chart(summary: RiskSummary, *, key: str) -> Picture:
    """Return the reliability diagram: stated probability against the share that were members."""
    points = summary.reliability
    figure, axes = new_axes(3.5)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (2, 2)))
    for one in points:
        axes.plot([one.stated, one.stated], [one.low, one.high], color=MEMBER, linewidth=2, alpha=0.6)
    (line,) = axes.plot([p.stated for p in points], [p.share for p in points], "o", color=MEMBER)
    line.set(markersize=6, markeredgewidth=0, clip_on=False)
    axes.grid(color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 1]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("probability the adversary states")
    axes.set_ylabel("share who were members")
    held = sum(one.low <= one.stated <= one.high for one in points)
    sizes = sorted({one.participants for one in points})
    people = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} or {sizes[-1]}"
    again = ", once for every target they were judged on" if summary.n_targets > 1 else ""
    label = "Reliability diagram. " + " ".join(
        f"Stated {_percent(one.stated)}, true {_percent(one.share)}." for one in points
    )
    caption = (
        f"Each dot is {people} people{again}; bars are 95 % intervals. On the dashed line the adversary’s "
        f"probabilities are honest; {held} of {len(points)} bars touch it. The spread of the dots along the "
        "line is what the adversary learns: without a leak all would lie at one place."
    )
    legend = (Key("dot", "people, by rising probability"), Key("guess", "stated = true"))
    return Picture(
        to_svg(figure, key=key, label=label),
        "Can the adversary’s probabilities be believed?",
        caption,
        legend,
    )


def any_rarest(targets: Sequence[Target]) -> bool:
    """Return whether any attack has a true-positive rate at 0.1 % false positives to show."""
    rates = (
        attack.metrics.get("tpr_at_fpr_0.001")
        for target in targets
        for attack in (*target.attacks, *target.controls)
    )
    return any(rate is not None and rate.value is not None for rate in rates)
