"""Numbers as readers meet them: ``results.tsv`` for machines, formatted rows for the page.

AUC has two decimals, rates and accuracies one decimal of a percentage, years one decimal; an
interval follows its value in brackets. A value that the design cannot support is a dash with a note.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from privoxel.evaluation.results import METRICS, PRECISION, AttackResult, Metric, PrivacyLoss, Results, Target

COLUMNS = (
    "target",
    "model",
    "kind",
    "name",
    "threat_model",
    "signals",
    "metric",
    "value",
    "low",
    "high",
    "level",
    "method",
    "sd_repeats",
    "paper",
    "n_members",
    "n_non_members",
    "reason",
)

DASH = "–"


class Cell(NamedTuple):
    """A formatted number: ``note`` is the mark of a footnote, empty where there is none."""

    text: str
    interval: str = ""
    note: str = ""


class Row(NamedTuple):
    """One attack or control, formatted."""

    name: str
    title: str
    threat_model: str
    signals: str
    remarks: tuple[str, ...]
    is_primary: bool
    sizes: str
    auc: Cell = Cell(DASH)
    tpr_01: Cell = Cell(DASH)
    tpr_1: Cell = Cell(DASH)
    tpr_5: Cell = Cell(DASH)
    tpr_10: Cell = Cell(DASH)
    accuracy: Cell = Cell(DASH)
    spread: str = DASH
    paper: str = DASH


@dataclass
class Footnotes:
    """Reasons for missing numbers, each written once; the mark is a letter."""

    reasons: list[str] = field(default_factory=list)

    def mark(self, reason: str) -> str:
        """Return the mark of ``reason``, a new one if it was not used before."""
        if not reason:
            return ""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return _letter(self.reasons.index(reason))

    def lines(self) -> list[tuple[str, str]]:
        """Return mark and reason of every footnote."""
        return [(_letter(place), reason) for place, reason in enumerate(self.reasons)]


def results_tsv(results: Results) -> str:
    """Return ``results.tsv``: one row per target, attack or control, and metric, and one per bound on ε.

    Fractions are 0-1 in full precision; ``kind`` is attack, control or epsilon; what is missing is ``n/a``.
    A bound's ``low`` is shown by the attack, its ``high`` allowed by the accountant; ``reason`` is what it
    assumes.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    for target in results.targets:
        for kind, attacks in (("attack", target.attacks), ("control", target.controls)):
            for attack in attacks:
                writer.writerows(_tsv_rows(target, kind, attack))
        for loss in target.epsilon:
            writer.writerows(_epsilon_rows(target, loss))
    return text.getvalue()


def with_interval(value: str, interval: str) -> str:
    """Return a number and, where there is one, its interval in brackets."""
    return f"{value} ({interval})" if interval else value


def metric_cell(name: str, metric: Metric | None, footnotes: Footnotes) -> Cell:
    """Return a metric as value and interval; a dash with a footnote where it has no value."""
    if metric is None:
        return Cell(DASH)
    if metric.value is None:
        return Cell(DASH, note=footnotes.mark(metric.reason))
    scale, digits, unit = _form(name)
    text = f"{scale * metric.value:.{digits}f}{unit}"
    if metric.low is None or metric.high is None:
        return Cell(text)
    return Cell(text, f"{scale * metric.low:.{digits}f}–{scale * metric.high:.{digits}f}")


def attack_row(attack: AttackResult, primary: str, footnotes: Footnotes) -> Row:
    """Return one attack or control as a formatted row; ``primary`` is the name to be marked."""
    metrics = attack.metrics
    extra = tuple(
        _extra(name, metric)
        for name, metric in metrics.items()
        if name not in METRICS and not name.startswith(PRECISION)
    )
    row = Row(
        name=attack.name,
        title=attack.title,
        threat_model=attack.threat_model,
        signals=", ".join(attack.signals) or "none",
        remarks=(*attack.notes, *extra),
        is_primary=attack.name == primary,
        sizes=f"{attack.n_members} + {attack.n_non_members}",
    )
    return fill_row(row, metrics, footnotes)


def fill_row(row: Row, metrics: Mapping[str, Metric], footnotes: Footnotes) -> Row:
    """Return ``row`` with its numbers filled in from ``metrics``."""
    accuracy, auc = metrics.get("balanced_accuracy"), metrics.get("auc")
    return row._replace(
        auc=metric_cell("auc", auc, footnotes),
        tpr_5=metric_cell("tpr_at_fpr_0.05", metrics.get("tpr_at_fpr_0.05"), footnotes),
        tpr_01=_rarest(metrics.get("tpr_at_fpr_0.001")),
        tpr_1=metric_cell("tpr_at_fpr_0.01", metrics.get("tpr_at_fpr_0.01"), footnotes),
        tpr_10=metric_cell("tpr_at_fpr_0.1", metrics.get("tpr_at_fpr_0.1"), footnotes),
        accuracy=metric_cell("balanced_accuracy", accuracy, footnotes),
        spread=_spread(auc, accuracy),
        paper=DASH if accuracy is None or accuracy.paper is None else f"{100 * accuracy.paper:.2f} %",
    )


def _rarest(rate: Metric | None) -> Cell:
    """Return the rate at 0.1 % false alarms; the column is not shown where nobody has it: no footnote."""
    return metric_cell("tpr_at_fpr_0.001", rate, Footnotes())._replace(note="")


def years(value: float | None) -> str:
    """Return an age or an error in years with one decimal, a dash for None."""
    return DASH if value is None else f"{round(value, 1) + 0.0:.1f}"  # no minus zero


def methods_used(targets: Iterable[Target]) -> list[tuple[str, str]]:
    """Return each kind of number and how its interval was made, as the metrics themselves say."""
    found: dict[str, list[str]] = {}
    for target in targets:
        for attack in (*target.attacks, *target.controls):
            for name, metric in attack.metrics.items():
                methods = found.setdefault(metric_title(name), [])
                if metric.method and metric.method not in methods:
                    methods.append(metric.method)
    return [(title, ", ".join(methods)) for title, methods in found.items() if methods]


def metric_title(name: str) -> str:
    """Return what a reader calls the metric ``name``; TPRs at all rates share one title."""
    if name.startswith("tpr_at_fpr_"):
        return "true-positive rates"
    if name.startswith(PRECISION):
        return "precision"
    return {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}.get(name, name.replace("_", " "))


def _form(name: str) -> tuple[float, int, str]:
    """Scale, decimals and unit in which a metric is shown."""
    if name == "balanced_accuracy" or name.startswith(("tpr", PRECISION)):
        return 100.0, 1, " %"
    return 1.0, 2, ""


def _spread(auc: Metric | None, accuracy: Metric | None) -> str:
    shown = []
    if auc is not None and auc.sd_repeats is not None:
        shown.append(f"{auc.sd_repeats:.3f}")
    if accuracy is not None and accuracy.sd_repeats is not None:
        shown.append(f"{100 * accuracy.sd_repeats:.1f} %")
    return " · ".join(shown) or DASH


def _extra(name: str, metric: Metric) -> str:
    cell = metric_cell(name, metric, Footnotes())
    reason = f" ({metric.reason})" if metric.value is None and metric.reason else ""
    return f"{metric_title(name)} {with_interval(cell.text, cell.interval)}{reason}"


def _letter(place: int) -> str:
    first, second = divmod(place, 26)
    return ("" if not first else chr(96 + first)) + chr(97 + second)


def _tsv_rows(target: Target, kind: str, attack: AttackResult) -> Iterator[list[str]]:
    for name, metric in attack.metrics.items():
        yield _line(
            target=target.name,
            model=target.model,
            kind=kind,
            name=attack.name,
            threat_model=attack.threat_model,
            signals=",".join(attack.signals),
            metric=name,
            value=metric.value,
            low=metric.low,
            high=metric.high,
            level=metric.level,
            method=metric.method,
            sd_repeats=metric.sd_repeats,
            paper=metric.paper,
            n_members=attack.n_members,
            n_non_members=attack.n_non_members,
            reason=metric.reason,
        )


def _epsilon_rows(target: Target, loss: PrivacyLoss) -> Iterator[list[str]]:
    for bound in loss.bounds:
        yield _line(
            target=target.name,
            model=target.model,
            kind="epsilon",
            name=loss.attack,
            threat_model=loss.threat_model,
            metric=f"epsilon of {loss.on} at delta {loss.delta:g}",
            low=bound.epsilon,
            high=loss.upper,
            level=bound.level,
            method=bound.method,
            n_members=loss.n_members,
            n_non_members=loss.n_non_members,
            reason=bound.assumption,
        )


def _line(**cells: str | float | None) -> list[str]:
    """Return the cells in the order of ``COLUMNS``; those not given are missing."""
    return [_plain(cells.get(column)) for column in COLUMNS]


def _plain(value: str | float | None) -> str:
    if value is None or value == "":
        return "n/a"
    if isinstance(value, str):
        return " ".join(value.split())
    return repr(value)


def signed(value: float, digits: int) -> str:
    """Return a number with its sign, zero without one."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]
