"""The report's part on differences: each attack against |error|, and targets against each other."""

from typing import NamedTuple

from privoxel.evaluation.results import Metric, PairedComparison, Results, Spread
from privoxel.report.groups import Group
from privoxel.report.tables import DASH, Cell, signed

READINGS = {
    "superior": "better",
    "non-inferior": "not worse by more than {margin:g}",
    "inferior": "worse by more than {margin:g}",
    "not shown": "no difference shown",
}


class ComparedRow(NamedTuple):
    """An attack's AUC minus that of the |error| threshold, and what the interval says."""

    title: str
    threat_model: str
    difference: Cell
    reading: str


class SpreadRow(NamedTuple):
    """SD of an attack's AUC over targets, and the shares of the variance by source."""

    title: str
    sd: str
    participants: str
    trainings: str
    designs: str


def compared_rows(results: Results, model: str) -> list[ComparedRow]:
    """Return a row for every attack on ``model`` that was compared, in the order of the results."""
    return [
        ComparedRow(one.title, one.threat_model, _difference(one.difference), _reading(one))
        for one in results.comparisons
        if one.model == model
    ]


def spread_rows(results: Results, group: Group) -> list[SpreadRow]:
    """Return a row for every attack on the group's model whose spread over targets is known."""
    titles = {one.name: one.title for one in group.attacks}
    return [
        _spread(titles[row.name], row.spread)
        for row in results.summary
        if row.model == group.model and row.name in titles and row.spread is not None
    ]


def _difference(metric: Metric) -> Cell:
    if metric.value is None:
        return Cell(DASH)
    if metric.low is None or metric.high is None:
        return Cell(signed(metric.value, 3))
    return Cell(signed(metric.value, 3), f"{signed(metric.low, 3)} to {signed(metric.high, 3)}")


def _reading(one: PairedComparison) -> str:
    return READINGS[one.finding].format(margin=one.margin)


def _spread(title: str, spread: Spread) -> SpreadRow:
    total = spread.participants + (spread.trainings or 0.0) + spread.designs

    def share(variance: float | None) -> str:
        return DASH if variance is None or total == 0.0 else f"{100 * variance / total:.0f} %"

    parts = (spread.participants, spread.trainings, spread.designs)
    return SpreadRow(title, f"{spread.sd:.3f}", *map(share, parts))
