"""A federation's results on a terminal: one row a pair matrix."""

from rich.table import Table

from privoxel.evaluation.federation_results import FederationResults
from privoxel.report.federation import percent
from privoxel.report.tables import DASH


def federation_table(results: FederationResults) -> Table:
    """Return the mean over all pairs of every attack and control, and the paper's of the successful."""
    utility = results.utility
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("mean of all pairs, %", "of those > 50 %", "paper"):
        table.add_column(heading, justify="right", no_wrap=True)
    for matrix in results.matrices:
        table.add_row(
            matrix.name,
            percent(matrix.mean_all),
            _successful(matrix.mean_successful, matrix.successes),
            _successful(matrix.paper_successful, matrix.paper_successes),
        )
    table.caption = (
        f"MAE learners / unseen / null: {utility.members:.2f} / {utility.non_members or 0:.2f} / "
        f"{utility.null:.2f} years"
    )
    table.caption_justify = "left"
    return table


def _successful(mean: float | None, count: int | None) -> str:
    return DASH if mean is None or count is None else f"{100 * mean:.1f} ({count})"
