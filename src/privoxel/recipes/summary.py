"""Results on a terminal: one row an attack."""

from rich.table import Table
from rich.text import Text

from privoxel.evaluation.results import AttackSummary, Metric, Results

TRUE_POSITIVES = "tpr_at_fpr_0.05"
WIDE = 78
SHORTEST = 14
"""Letters of a model's name that are always shown."""


def summary_table(results: Results, *, width: int = WIDE) -> Table:
    """Return a table of every attack's main metrics, over all targets; a star marks the primary one.

    Below ``WIDE`` columns only the AUC and the published accuracy are shown, the latter where there is one.
    """
    table = Table(box=None, pad_edge=False, title=None)
    table.add_column("", no_wrap=True)
    is_wide = width >= WIDE
    has_paper = any(metric.paper is not None for row in results.summary for metric in row.metrics.values())
    for heading in (
        "AUC (95 %)",
        *(("balanced acc.", "TPR@5%FPR") if is_wide else ()),
        *(("paper",) if has_paper else ()),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for model in dict.fromkeys(row.model for row in results.summary):
        rows = [row for row in results.summary if row.model == model]
        table.add_section()
        lines = [_cells(row, results.verdict.primary_attack, is_wide=is_wide) for row in rows]
        room = max(len(cells[0]) for cells in lines)
        table.add_row(_heading(model, f" ({_targets(rows[0])})", room))
        for cells in lines:
            table.add_row(*(cells if has_paper else cells[:-1]))
    return table


def _heading(model: str, count: str, room: int) -> Text:
    """Return the model's line, the end of its name where it is wider than its attacks' names and numbers."""
    most = max(room - len(count), SHORTEST)
    shown = model if len(model) <= most else f"…{model[1 - most :]}"
    return Text.assemble((shown, "bold"), count)


def _targets(row: AttackSummary) -> str:
    return "1 target" if row.n_targets == 1 else f"{row.n_targets} targets"


def _cells(row: AttackSummary, primary: str, *, is_wide: bool) -> tuple[str, ...]:
    mark = " *" if row.name == primary else ""
    accuracy = row.metrics["balanced_accuracy"]
    rate = row.metrics[TRUE_POSITIVES].value
    middle = (_cell(accuracy), "–" if rate is None else f"{rate:.2f}") if is_wide else ()
    paper = "" if accuracy.paper is None else f"{accuracy.paper:.3f}"
    return f" {row.name}{mark}", _cell(row.metrics["auc"]), *middle, paper


def _cell(metric: Metric) -> str:
    if metric.value is None or metric.low is None or metric.high is None:
        return "–"
    return f"{metric.value:.2f} ({metric.low:.2f}-{metric.high:.2f})"
