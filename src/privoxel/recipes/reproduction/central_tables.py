"""Tables 1 and 3, figure 1 and appendix E: measured beside published, in the paper's layout."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from privoxel.arrays import BoolArray, FloatArray
from privoxel.evaluation.reproduction_results import Histograms, PaperTable, ShadowResults, TableLine
from privoxel.evaluation.results import AttackResult, Metric, Target
from privoxel.recipes.judging import COVARIATES_BEST
from privoxel.recipes.published import TABLE_1
from privoxel.recipes.reproduction.cells import CentralRun
from privoxel.recipes.reproduction.central import NAMES, NETWORKS
from privoxel.recipes.reproduction.published_central import (
    APPENDIX_E,
    FIGURE_1,
    FIGURE_1_GRADIENTS,
    TABLE_1_SD,
    TABLE_3,
    THRESHOLDS,
)
from privoxel.signals.extract import signal_file
from privoxel.signals.table import GRADIENT

ROWS = {
    "activation": "activation",
    "error-forest": "error",
    "gradient-magnitude": "gradient magnitude",
    "gradient-conv1": "gradient (conv 1)",
    "gradient-output": "gradient (output)",
    "gradient-conv6": "gradient (conv 6)",
    "prediction-label": "prediction + label",
    "combined": "prediction + label + gradient (conv 6 + output)",
}
"""Rows of Table 1 in its order, as it calls them."""
THRESHOLD_ROWS = {
    "abs-error": "one threshold on |error|",
    "gradient-norm": "one threshold on the gradient's norm",
}
DASH = "–"
BINS = 40
ACCURACY = "balanced_accuracy"


def table_1(found: Mapping[str, CentralRun]) -> PaperTable:
    """Return Table 1: accuracy of every feature set on both networks, thresholds and controls below."""
    lines = [_accuracies(name, label, found) for name, label in ROWS.items()]
    lines += [_accuracies(name, label, found) for name, label in THRESHOLD_ROWS.items()]
    lines += _controls(found)
    columns = [f"{NAMES[model]}, {kind}" for model in found for kind in ("measured", "SD of 5", "published")]
    return PaperTable(
        part="table1",
        title="Table 1: attacks on centrally trained networks",
        caption="Accuracy in %, guessing is 50. Measured: mean over the adversary's draws, in brackets "
        "the 95 % interval over participants, then the SD over the draws, which is what the paper prints "
        "after its ±. The published value of a threshold is read off figure 1, with the best cut on the "
        "very scans it is judged on; the gradient's is of conv 1 alone. Controls look for people by age, "
        "sex and site, for one half of the non-members, and for people whom the attacked model never "
        "saw: they belong at 50.",
        columns=columns,
        lines=lines,
    )


def _accuracies(name: str, label: str, found: Mapping[str, CentralRun]) -> TableLine:
    cells: list[Metric | str] = []
    for model, run in found.items():
        attack = next((one for one in run.results.targets[0].attacks if one.name == name), None)
        cells += [*_measured(attack), _published(model, name)]
    return TableLine(label=label, cells=cells)


def _measured(attack: AttackResult | None) -> tuple[Metric | str, str]:
    if attack is None:
        return DASH, DASH
    metric = attack.metrics[ACCURACY]
    return metric, DASH if metric.sd_repeats is None else f"{100 * metric.sd_repeats:.2f}"


def _published(model: str, name: str) -> str:
    value = TABLE_1[model].get(name)
    if value is None:
        threshold = THRESHOLDS[model].get(name)
        return DASH if threshold is None else f"{100 * threshold:.1f}"
    sd = TABLE_1_SD[model].get(name)
    return f"{100 * value:.2f}" if sd is None else f"{100 * value:.2f} ± {100 * sd:.2f}"


def _controls(found: Mapping[str, CentralRun]) -> list[TableLine]:
    controls = {model: {c.name: c for c in run.results.targets[0].controls} for model, run in found.items()}
    titles = {c.name: c.title for of_model in controls.values() for c in of_model.values()}
    return [
        TableLine(
            label=title,
            kind="control",
            cells=[cell for model in found for cell in (*_measured(controls[model].get(name)), DASH)],
        )
        for name, title in titles.items()
        if name != COVARIATES_BEST  # it ranks, and calls nobody a member
    ]


def table_3(found: Mapping[str, CentralRun]) -> PaperTable:
    """Return Table 3: errors of the networks on training, test and validation scans."""
    lines = []
    for model, run in found.items():
        utility, published = run.results.targets[0].utility, TABLE_3[model]
        test = utility.non_members or 0.0
        validation = DASH if utility.validation is None else f"{utility.validation:.2f}"
        measured = [f"{utility.members:.2f}", f"{test:.2f}", validation, f"{test - utility.members:.2f}"]
        printed = [*(f"{value:.2f}" for value in published), f"{published.test - published.train:.2f}"]
        cells = [f"{mine} ({theirs})" for mine, theirs in zip(measured, printed, strict=True)]
        lines.append(TableLine(label=NAMES[model], cells=[*cells, f"{utility.null:.2f} (6.25)"]))
    return PaperTable(
        part="table3",
        title="Table 3: errors of the networks",
        caption="Mean absolute error in years at the end of training; gap: test minus train. Null: "
        "predicting the mean training age for everyone. In brackets what the paper printed, the null "
        "read off a figure.",
        columns=["train", "test", "validation", "gap", "null"],
        lines=lines,
    )


def figure_1_table(found: Mapping[str, CentralRun]) -> PaperTable:
    """Return the numbers behind figure 1: spread of errors and size of conv 1's gradient, by group."""
    lines = []
    for model, run in found.items():
        error = run.scores.prediction - run.scores.age
        gradient = conv1_norms(run)
        for place, (group, mask) in enumerate((("train", run.scores.members), ("test", ~run.scores.members))):
            mine, spread = error[mask], FIGURE_1[model][place]
            median = DASH if gradient is None else f"{np.median(gradient[mask]):.3g}"
            lines.append(
                TableLine(
                    label=f"{NAMES[model]}, {group}",
                    cells=[
                        f"{mine.mean():.2f} ({spread.mean:.2f})",
                        f"{mine.std():.2f} ({spread.sd:.2f})",
                        f"{np.abs(mine).mean():.2f} ({spread.mean_abs:.2f})",
                        f"{median} ({FIGURE_1_GRADIENTS[model][place]:g})",
                    ],
                )
            )
    return PaperTable(
        part="fig1",
        title="Figure 1 in numbers",
        caption="Signed error in years, and the norm of the gradient of conv 1's weights. In brackets "
        "what the paper's figure shows; gradients depend on width and head of the network, so that only "
        "their ratio can be compared.",
        columns=["mean error", "SD", "mean |error|", "median |gradient of conv 1|"],
        lines=lines,
    )


def figure_1(found: Mapping[str, CentralRun]) -> list[Histograms]:
    """Return figure 1: errors and gradients of conv 1, training against test scans."""
    pictures = []
    for model, run in found.items():
        error, members = run.scores.prediction - run.scores.age, run.scores.members
        pictures.append(
            _histograms(error, members, f"{NAMES[model]}: error", "predicted minus true age (years)")
        )
        gradient = conv1_norms(run)
        if gradient is not None and (gradient > 0).all():
            axis = "log10 of the norm of conv 1's gradient"
            pictures.append(_histograms(np.log10(gradient), members, f"{NAMES[model]}: gradient", axis))
    return pictures


def _histograms(values: FloatArray, members: BoolArray, title: str, x_label: str) -> Histograms:
    edges = np.histogram_bin_edges(values, BINS)
    shares = [np.histogram(values[group], edges)[0] / group.sum() for group in (members, ~members)]
    return Histograms(
        part="fig1",
        title=title,
        caption="Share of the scans in each bin: figure 1.",
        x_label=x_label,
        edges=edges.tolist(),
        members=shares[0].tolist(),
        non_members=shares[1].tolist(),
    )


def conv1_norms(run: CentralRun) -> FloatArray | None:
    """Return the norm of the gradient of conv 1's weights of every judged scan; None if it was not kept."""
    path: Path = run.folder / "signals" / target_of(run).name / signal_file(f"{GRADIENT}conv1")
    if not path.exists():
        return None
    stored = np.load(path, mmap_mode="r")[0, -1]
    return np.linalg.norm(np.asarray(stored, dtype=np.float64).reshape(len(stored), -1), axis=1)


def target_of(run: CentralRun) -> Target:
    """Return the target of a run of one network and one design."""
    return run.results.targets[0]


def appendix_e(found: Mapping[str, ShadowResults]) -> PaperTable:
    """Return appendix E: what a classifier that learnt from one shadow reaches on the target."""
    lines = []
    for model in (one for one in NETWORKS if one in found):
        results, printed = found[model], APPENDIX_E[model]
        for row, label, published in (
            (results.own, "shadow of people who trained the target too, as in the paper", printed),
            (results.disjoint, "shadow of other people", None),
        ):
            if row is None:
                continue
            target, validation = DASH, DASH
            if published is not None:
                target = f"{100 * published.target:.2f} ± {100 * published.target_sd:.2f}"
                validation = f"{100 * published.validation:.2f} ± {100 * published.validation_sd:.2f}"
            errors = f"{row.mae_members:.2f} / {row.mae_non_members:.2f}"
            lines.append(
                TableLine(
                    label=f"{NAMES[model]}: {label}",
                    cells=[row.target, target, row.validation, validation, errors, str(row.members)],
                )
            )
    return PaperTable(
        part="appendix-e",
        title="Appendix E: nobody's membership known, one shadow",
        caption="Accuracy in % of a classifier of prediction, label and gradients (conv 6 + output) that "
        "learnt who trained the shadow. Target: members outside the shadow against unseen participants, "
        "the same for both shadows. Validation: the shadow's own participants, a fifth of them held out.",
        columns=[
            "target",
            "published",
            "validation",
            "published",
            "shadow's MAE, its own / unseen (years)",
            "participants who trained it",
        ],
        lines=lines,
    )
