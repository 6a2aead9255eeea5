"""Figures 3, 7 and 8: private models, their error, gap and ε against what an attack on them reaches.

All private models are judged on the same participants, who are drawn anew for all of them at once, so that
the line through them has an interval over participants as well as over models.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from privoxel.attacks import get_attack
from privoxel.evaluation.frontier import Choice, Quantities, check_alike, draw_weights, estimate, quantities
from privoxel.evaluation.metrics import to_metric
from privoxel.evaluation.overfitting import FEWEST, PUBLISHED, Line, Resampled, fit_line
from privoxel.evaluation.reproduction_results import DrawnLine, PaperTable, Scatter, Series, TableLine
from privoxel.evaluation.results import Metric
from privoxel.evaluation.scored import Estimate
from privoxel.recipes.reproduction.cells import CentralRun
from privoxel.recipes.reproduction.central import NAMES, NETWORKS, Central
from privoxel.recipes.reproduction.published_central import PrivatePoint, published_private
from privoxel.seeding import Streams
from privoxel.training.private.accounting import MEANINGLESS

DRAWS = 1000


class PrivateModel(NamedTuple):
    """One private model: accuracy of the attack fixed beforehand, and what the model costs (years, R²)."""

    model: str
    noise: float
    epsilon: float
    accuracy: Metric
    mae: Estimate
    gap: Estimate
    r2: Estimate
    null_mae: float


@final
@dataclass(frozen=True)
class PrivateModels:
    """All private models, and the lines of accuracy on gap: ``all`` of them and each network's."""

    attack: str
    models: tuple[PrivateModel, ...]
    lines: Mapping[str, Line]


def private_models(found: Mapping[Central, CentralRun], attack: str, seed: int) -> PrivateModels | None:
    """Return the private models among ``found``; None if there are none."""
    runs = {cell: run for cell, run in found.items() if cell.noise is not None}
    if not runs:
        return None
    choices = [Choice(cell.name, (run.scores,)) for cell, run in runs.items()]
    check_alike(choices)
    rng = Streams(seed).generator("bootstrap/private")
    drawn_weights = draw_weights(choices[0].targets, DRAWS, rng)
    ones = [np.ones((1, len(choices[0].targets[0].age)))]
    values = [quantities(choice, ones) for choice in choices]
    drawn = [quantities(choice, drawn_weights) for choice in choices]
    models = tuple(
        _model(cell, run, attack, value, draws)
        for (cell, run), value, draws in zip(runs.items(), values, drawn, strict=True)
    )
    lines: dict[str, Line] = {}
    for name in ("all", *NETWORKS):
        chosen = [k for k, cell in enumerate(runs) if name in {"all", cell.model}]
        if len(chosen) >= FEWEST:
            gaps = np.stack([drawn[k].gap for k in chosen], axis=1)
            accuracies = np.stack([drawn[k].accuracy[attack] for k in chosen], axis=1)
            lines[name] = fit_line(
                [models[k].gap.value or 0.0 for k in chosen],
                [models[k].accuracy.value or 0.5 for k in chosen],
                resampled=Resampled(gaps, accuracies),
            )
    return PrivateModels(get_attack(attack).title, models, lines)


def _model(cell: Central, run: CentralRun, attack: str, value: Quantities, drawn: Quantities) -> PrivateModel:
    target = run.results.targets[0]
    spent = target.design.get("defence", {}).get("privacy_epsilon", "nan")
    accuracy = next(one for one in target.attacks if one.name == attack).metrics["balanced_accuracy"]
    mae, gap, r2 = (
        estimate(float(getattr(value, name)[0]), getattr(drawn, name)) for name in ("mae", "gap", "r2")
    )
    noise = cell.noise or 0.0
    return PrivateModel(cell.model, noise, float(spent), accuracy, mae, gap, r2, target.utility.null)


def private_table(found: PrivateModels) -> PaperTable:
    """Return the private models as a table."""
    lines = [
        TableLine(
            label=f"{NAMES[one.model]}, noise {one.noise:g}",
            cells=[
                epsilon_words(one.epsilon),
                _years(one.mae),
                _years(one.gap),
                _years(one.r2),
                one.accuracy,
            ],
        )
        for one in found.models
    ]
    return PaperTable(
        part="fig3",
        title="Figures 3, 7 and 8 in numbers: private models",
        caption=f"DP-Adam, noise as a multiple of the clip; ε at δ = 1e-6. Error of the test scans and "
        f"gap (test minus train) in years, R² of the test scans, accuracy of the attack {found.attack} in "
        "%, all with 95 % intervals over participants.",
        columns=["ε", "test MAE", "gap", "R²", "attack"],
        lines=lines,
    )


def epsilon_words(epsilon: float) -> str:
    """Return ε, and that it guarantees nothing where that is so."""
    if not math.isfinite(epsilon):
        return "infinite: no guarantee"
    text = f"{epsilon:.2f}" if epsilon < MEANINGLESS else f"10^{math.log10(epsilon):.1f}"
    return text if epsilon <= MEANINGLESS else f"{text}: no meaningful guarantee"


def line_table(found: PrivateModels) -> PaperTable:
    """Return the lines of accuracy on gap, measured beside those through the published points."""
    lines = [_line(name, line) for name, line in found.lines.items()]
    return PaperTable(
        part="fig3",
        title="Figure 3b: the overfitting line",
        caption="Least squares of the attack's accuracy on the gap between test and training error. "
        "Accuracy in %, slope in points a year. Intervals: the reaches over models and over "
        "participants added in quadrature. Published: refitted to the points of the paper's figures.",
        columns=[
            "accuracy without a gap",
            "published",
            "slope",
            "published",
            "correlation",
            "published",
            "models (published)",
        ],
        lines=lines,
    )


def _line(name: str, line: Line) -> TableLine:
    printed = PUBLISHED[name]
    return TableLine(
        label="all models" if name == "all" else NAMES[name],
        cells=[
            to_metric(line.intercept),
            f"{100 * printed.intercept:.1f}",
            _with_ends(line.slope, 100, 1),
            f"{100 * printed.slope:.1f}",
            _with_ends(line.r, 1, 3),
            f"{printed.r:.3f}",
            f"{line.models} ({printed.models})",
        ],
    )


def _years(found: Estimate) -> str:
    return _with_ends(found, 1, 2)


def _with_ends(found: Estimate, scale: float, digits: int) -> str:
    if found.value is None or found.low is None or found.high is None:
        return found.reason or "–"
    value, low, high = (f"{scale * number:.{digits}f}" for number in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def scatters(found: PrivateModels, parts: Sequence[str]) -> list[Scatter]:
    """Return those of figures 3, 7 and 8 that are asked for."""
    accuracy = "accuracy of the attack (%)"
    pictures = []
    if "fig3" in parts:
        pictures += [
            _scatter(
                found,
                "fig3",
                "Figure 3a: error and attack",
                "test MAE (years)",
                accuracy,
                ("mae", "accuracy"),
            ),
            _scatter(
                found,
                "fig3",
                "Figure 3b: overfitting and attack",
                "test minus training MAE (years)",
                accuracy,
                ("gap", "accuracy"),
            ),
        ]
    if "fig7" in parts:
        label = "log10 ε"
        pictures += [
            _scatter(found, "fig7", "Figure 7: ε and attack", label, accuracy, ("epsilon", "accuracy")),
            _scatter(found, "fig7", "Figure 7: ε and error", label, "test MAE (years)", ("epsilon", "mae")),
        ]
    if "fig8" in parts:
        pictures.append(
            _scatter(
                found,
                "fig8",
                "Figure 8: explained variance and attack",
                "R² of the test scans",
                accuracy,
                ("r2", "accuracy"),
            )
        )
    return pictures


def _scatter(
    found: PrivateModels, part: str, title: str, x_label: str, y_label: str, axes: tuple[str, str]
) -> Scatter:
    """Return one figure: every network's models measured, and those of the paper."""
    series, lines = [], []
    for model in NETWORKS:
        mine = [one for one in found.models if one.model == model and math.isfinite(_x(one, axes[0]))]
        if mine:
            series.append(_measured(model, mine, axes))
        points = [_published(point) for point in published_private(model)]
        name = f"{NAMES[model]}, published"
        x, y = ([point[axis] for point in points] for axis in axes)
        series.append(Series(name=name, is_published=True, x=x, y=y))
    if axes == ("gap", "accuracy"):
        lines = _drawn_lines(found)
    return Scatter(
        part=part,
        title=title,
        caption=f"Private models; accuracy of {found.attack}. Bars: 95 % intervals over participants.",
        x_label=x_label,
        y_label=y_label,
        series=series,
        lines=lines,
    )


def _x(one: PrivateModel, axis: str) -> float:
    if axis == "epsilon":
        return math.log10(one.epsilon) if one.epsilon > 0 else math.nan
    found: Estimate = getattr(one, axis)
    return found.value if found.value is not None else math.nan


def _measured(model: str, mine: Sequence[PrivateModel], axes: tuple[str, str]) -> Series:
    scale = 100.0 if axes[1] == "accuracy" else 1.0
    found = [getattr(one, axes[1]) for one in mine]
    value, low, high = ([scale * getattr(one, end) for one in found] for end in ("value", "low", "high"))
    return Series(
        name=f"{NAMES[model]}, measured here",
        is_published=False,
        x=[_x(one, axes[0]) for one in mine],
        y=value,
        low=low,
        high=high,
    )


def _published(point: PrivatePoint) -> Mapping[str, float]:
    return {
        "epsilon": point.log10_epsilon,
        "mae": point.test_mae,
        "gap": point.gap,
        "accuracy": 100 * point.accuracy,
        "r2": point.r2,
    }


def _drawn_lines(found: PrivateModels) -> list[DrawnLine]:
    line, printed = found.lines.get("all"), PUBLISHED["all"]
    gaps = [one.gap.value or 0.0 for one in found.models]
    theirs = [point.gap for model in NETWORKS for point in published_private(model)]
    drawn = [
        DrawnLine(
            name="line through the published models",
            is_published=True,
            intercept=100 * printed.intercept,
            slope=100 * printed.slope,
            x=(min(theirs), max(theirs)),
        )
    ]
    if line is not None:
        intercept, slope = (100 * (one.value or 0.0) for one in (line.intercept, line.slope))
        name, x = "line through the models measured here", (min(gaps), max(gaps))
        drawn.append(DrawnLine(name=name, is_published=False, intercept=intercept, slope=slope, x=x))
    return drawn
