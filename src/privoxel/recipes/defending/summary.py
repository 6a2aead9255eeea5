"""A frontier on a terminal: one row a setting, the most accurate first."""

from rich.table import Table

from privoxel.evaluation.frontier_results import Front, FrontierPoint, FrontierResults
from privoxel.evaluation.results import Metric


def frontier_table(results: FrontierResults) -> Table:
    """Return a table of every setting's error, gap, best attacks and ε; a star is on the frontier.

    A dagger is left out of it: who holds the weights need not ask for the answers.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("setting", no_wrap=True)
    adversaries = [front.adversary for front in results.fronts]
    for heading in ("MAE", "gap", *(f"{adversary} %" for adversary in adversaries), "ε"):
        table.add_column(heading, justify="right", no_wrap=True)
    fronts = {front.adversary: front for front in results.fronts}
    for point in sorted(results.points, key=lambda one: one.mae.value or 0.0):
        table.add_row(*_cells(point, fronts))
    return table


def _cells(point: FrontierPoint, fronts: dict[str, Front]) -> list[str]:
    reached = {one.adversary: one.accuracy for one in point.vulnerability}
    cells = [
        f"{_shown(reached[adversary], 100, 0)}{_mark(point.name, front)}"
        for adversary, front in fronts.items()
    ]
    bounds = point.privacy
    upper = "" if bounds is None else "∞" if bounds.upper is None else f"{bounds.upper:.3g}"
    return [point.name, f"{point.mae.value:.2f}", f"{point.gap.value:.2f}", *cells, upper]


def _mark(name: str, front: Front) -> str:
    return " *" if name in front.names else " †" if name in front.left_out else "  "


def _shown(metric: Metric, scale: float, digits: int) -> str:
    if metric.value is None or metric.low is None or metric.high is None:
        return "–"
    ends = f"{scale * metric.low:.{digits}f}-{scale * metric.high:.{digits}f}"
    return f"{scale * metric.value:.{digits}f} ({ends})"
