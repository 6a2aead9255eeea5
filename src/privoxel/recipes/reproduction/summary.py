"""A reproduction on a terminal: its tables, and how its claims were ruled."""

from collections.abc import Iterator

from rich.table import Table

from privoxel.evaluation.reproduction_results import Comparison
from privoxel.report.federation import percent
from privoxel.report.reproduction import shown_cell


def comparison_tables(comparison: Comparison) -> Iterator[Table]:
    """Yield measured numbers beside published ones, and the claims."""
    for part in comparison.tables:
        table = Table(title=part.title, title_justify="left", box=None, pad_edge=False)
        for heading in ("", *part.columns):
            table.add_column(heading, overflow="fold")
        for line in part.lines:
            table.add_row(line.label, *map(shown_cell, line.cells))
        yield table
    if comparison.rows:
        yield _federations(comparison)
    if comparison.claims:
        table = Table(title="Claims", title_justify="left", box=None, pad_edge=False)
        for heading in ("claim", "measured", "ruling"):
            table.add_column(heading, overflow="fold")
        for one in comparison.claims:
            table.add_row(one.claim, one.measured, one.ruling)
        yield table


def _federations(comparison: Comparison) -> Table:
    table = Table(title="Federations", title_justify="left", box=None, pad_edge=False)
    for heading in ("federation", "measured", "published", "all pairs, %", "control, %"):
        table.add_column(heading, overflow="fold")
    for row in comparison.rows:
        table.add_row(
            f"{row.model}, {row.environment}\n  {row.quantity}",
            row.measured,
            row.published,
            percent(row.all_pairs),
            percent(row.control),
        )
    return table
