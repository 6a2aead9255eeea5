"""What each interval of training says of a scan: its gradient at the start against where the weights went.

For every two neighbouring snapshots, signals at the earlier one: the prediction, gradient norms, the whole
gradient's inner product with the direction Δ / ‖Δ‖ of the movement (``product:movement``), its random
projection (``projection:512``), and the same projection of the mean gradient of the interval
(``step:512``, one row repeated for every scan). The table's snapshots are the intervals' starts.

The mean gradient is −``gradient_per_move`` · Δ. For plain SGD with learning rate η and T steps in the
interval that factor is the loss scale divided by η·T: exact for one step, and for more as far as gradients
change little in between. Adam's steps are no gradients: there products mean something and ``step:`` does not.
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
from privoxel.models.base import AuditableModel
from privoxel.progress import Progress
from privoxel.signals.directions import Direction, direction_norm, movement
from privoxel.signals.extract import Extraction, extract, open_table, signal_file
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

    ``projection`` is the number of random projections; ``gradient_per_move`` turns a movement into minus a
    mean gradient (years² per unit of weight); 0 leaves ``step:`` out.
    """

    projection: int = 512
    gradient_per_move: float = 0.0
    batch_size: int = 0
    runtime: Runtime = field(default_factory=Runtime)


def extract_movement(
    model: AuditableModel,
    snapshots: Sequence[Path],
    cohort: Cohort,
    intervals: Intervals,
    *,
    folder: Path,
    progress: Progress,
) -> SignalTable:
    """Write the signals of every scan and interval into ``folder``; return their table, without membership.

    Raises:
        SignalError: for fewer than two snapshots, weights that did not move, or a value that is not finite.
    """
    if len(snapshots) < 2:
        raise SignalError(
            f"The course of training needs at least 2 snapshots, got {len(snapshots)}. "
            "Lower [training] snapshot_every and train again."
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
            parts[-1][f"{STEP}{intervals.projection}"] = _step(moved, intervals, len(cohort))
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
    signals = (PREDICTION, GRADIENT_NORMS, f"{PRODUCT}{NAME}", f"{PROJECTION}{intervals.projection}")
    return Extraction(signals, intervals.batch_size, intervals.runtime, directions={NAME: unit})


def _step(moved: Direction, intervals: Intervals, scans: int) -> npt.NDArray[np.float32]:
    """Return the projected mean gradient as models × snapshots × scans × numbers, the same for every scan."""
    mean: dict[str, Tensor] = {
        name: -intervals.gradient_per_move * tensor[None] for name, tensor in moved.items()
    }
    row = project(mean, intervals.projection, seed=0)[0].numpy().astype(np.float32)
    return np.broadcast_to(row, (1, 1, scans, len(row)))
