"""A frontier on a terminal: one row a setting, the most accurate first."""

from rich.table import Table

from privoxel.evaluation.frontier_results import Front, FrontierPoint, FrontierResults
from privoxel.evaluation.results import Metric

WIDE = 100
LONGEST = 34
"""Letters of a setting's name that a narrow terminal shows."""


def frontier_table(results: FrontierResults, *, width: int = WIDE) -> Table:
    """Return a table of every setting's error, gap, best attacks and ε; a star is on the frontier.

    A dagger is left out of it: who holds the weights need not ask for the answers. Below ``WIDE`` columns the
    gap is left out, and long names are cut.
    """
    is_wide = width >= WIDE
    table = Table(box=None, pad_edge=False, padding=(0, 2 if is_wide else 1, 0, 0), caption_justify="left")
    table.add_column("setting", no_wrap=True, max_width=None if is_wide else LONGEST)
    adversaries = [front.adversary for front in results.fronts]
    for heading in ("MAE", *(("gap",) if is_wide else ()), *(f"{one} %" for one in adversaries), "ε"):
        table.add_column(heading, justify="right", no_wrap=True)
    fronts = {front.adversary: front for front in results.fronts}
    for point in sorted(results.points, key=lambda one: one.mae.value or 0.0):
        name, mae, gap, *rest = _cells(point, fronts)
        table.add_row(name, mae, *((gap,) if is_wide else ()), *rest)
    table.caption = _legend(results)
    return table


def _legend(results: FrontierResults) -> str:
    """Return what the table's marks say."""
    signs = ["* no other setting is better in both"]
    if any(front.left_out for front in results.fronts):
        signs.append("† changes the answers alone")
    if any(point.privacy is not None and point.privacy.is_seeded for point in results.points):
        signs.append("‡ if the noise were secret")
    return " · ".join(signs)


def _cells(point: FrontierPoint, fronts: dict[str, Front]) -> list[str]:
    reached = {one.adversary: one.accuracy for one in point.vulnerability}
    cells = [
        f"{_shown(reached[adversary], 100, 0)}{_mark(point.name, front)}"
        for adversary, front in fronts.items()
    ]
    bounds = point.privacy
    upper = "" if bounds is None else bounds.upper_shown
    if bounds is not None and bounds.is_seeded:
        upper += " ‡"
    return [point.name, f"{point.mae.value:.2f}", f"{point.gap.value:.2f}", *cells, upper]


def _mark(name: str, front: Front) -> str:
    return " *" if name in front.names else " †" if name in front.left_out else "  "


def _shown(metric: Metric, scale: float, digits: int) -> str:
    if metric.value is None or metric.low is None or metric.high is None:
        return "–"
    ends = f"{scale * metric.low:.{digits}f}-{scale * metric.high:.{digits}f}"
    return f"{scale * metric.value:.{digits}f} ({ends})"
