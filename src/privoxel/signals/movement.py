"""What each interval of training says of a scan: its gradient at the start against where the weights went.

For every two neighbouring snapshots, signals at the earlier one: the prediction, gradient norms, the whole
gradient's inner product with the direction Δ / ‖Δ‖ of the movement (``product:movement``), its random
projection (``projection:512``), and the same projection of the mean gradient of the interval
(``step:512``, one row repeated for every scan). The table's snapshots are the intervals' starts.

The mean gradient of an interval is −``gradient_per_move`` · Δ. For plain SGD with learning rate η and T steps
in the interval that factor is the loss scale divided by η·T: exact for one step, and for more as far as
gradients change little in between. Adam's steps are no gradients: there products mean something and ``step:``
does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt
from torch import Tensor

from privoxel.cohort.base import Cohort
from privoxel.errors import SignalError
from privoxel.gradients.projection import project
from privoxel.progress import Progress
from privoxel.signals.directions import Direction, direction_norm, movement
from privoxel.signals.extract import MEMORY, Extraction, Model, extract, open_table, signal_file
from privoxel.signals.table import (
    GRADIENT_NORMS,
    PREDICTION,
    PRODUCT,
    PROJECTION,
    STEP,
    Membership,
    SignalTable,
)
from privoxel.training.runtime import Runtime

NAME = "movement"


@final
@dataclass(frozen=True)
class Intervals:
    """What to extract of each interval.

    ``projection`` is the number of random projections, 0 for none; ``gradient_per_move`` turns the movement
    of each interval into minus a mean gradient (years² per unit of weight); without it there is no ``step:``.
    """

    projection: int = 512
    gradient_per_move: tuple[float, ...] = ()
    batch_size: int = 0
    runtime: Runtime = field(default_factory=Runtime)
    memory: int = MEMORY


def extract_movement(
    model: Model,
    snapshots: Sequence[Path],
    cohort: Cohort,
    intervals: Intervals,
    *,
    folder: Path,
    progress: Progress,
) -> SignalTable:
    """Write the signals of every scan and interval into ``folder``; return their table, without membership.

    Raises:
        SignalError: for fewer than two snapshots, factors that are not one for each interval, weights that
            did not move, or a value that is not finite.
    """
    if len(snapshots) < 2:
        raise SignalError(
            f"The course of training needs at least 2 snapshots, got {len(snapshots)}. "
            "Lower [training] snapshot_every and train again."
        )
    if len(intervals.gradient_per_move) not in {0, len(snapshots) - 1}:
        raise SignalError(
            f"The course of training needs a gradient_per_move for each of {len(snapshots) - 1} intervals, "
            f"got {len(intervals.gradient_per_move)}. Give one each, or none."
        )
    parameters = [name for name, _ in model.named_parameters()]
    parts: list[dict[str, npt.NDArray[np.generic]]] = []
    tensors: tuple[str, ...] = ()
    for number, (before, after) in enumerate(pairwise(snapshots)):
        moved = movement(before, after, parameters)
        part = folder / f"interval-{number:04d}"
        found = extract(
            model, [before], cohort, _extraction(moved, intervals, after), folder=part, progress=progress
        )
        tensors = found.tensors
        parts.append({name: np.load(path, mmap_mode="r") for name, path in found.files.items()})
        if intervals.gradient_per_move:
            factor, size = intervals.gradient_per_move[number], intervals.projection
            parts[-1][f"{STEP}{size}"] = _step(moved, factor, size, len(cohort))
    for name in parts[0]:
        np.save(folder / signal_file(name), np.concatenate([part[name] for part in parts], axis=1))
    return open_table(
        folder,
        covariates=cohort.covariates,
        model=type(model).__name__,
        snapshots=[path.stem for path in snapshots[:-1]],
        membership=np.full(len(cohort), Membership.EXCLUDED, dtype=np.int8),
        tensors=tensors,
    )


def _extraction(moved: Direction, intervals: Intervals, after: Path) -> Extraction:
    length = direction_norm(moved)
    if length == 0.0:
        raise SignalError(
            f"The course of training needs weights that move, got {after.name} equal to the snapshot before "
            "it. Leave one of the two out."
        )
    device = intervals.runtime.device
    unit = {name: (tensor / length).to(device) for name, tensor in moved.items()}
    signals: tuple[str, ...] = (PREDICTION, GRADIENT_NORMS, f"{PRODUCT}{NAME}")
    if intervals.projection:
        signals = (*signals, f"{PROJECTION}{intervals.projection}")
    return Extraction(
        signals, intervals.batch_size, intervals.runtime, intervals.memory, directions={NAME: unit}
    )


def _step(moved: Direction, factor: float, size: int, scans: int) -> npt.NDArray[np.float32]:
    """Return the projected mean gradient as models × snapshots × scans × numbers, the same for every scan."""
    mean: dict[str, Tensor] = {name: -factor * tensor[None] for name, tensor in moved.items()}
    row = project(mean, size, seed=0)[0].numpy().astype(np.float32)
    return np.broadcast_to(row, (1, 1, scans, len(row)))
