"""Predictions on copies of every scan: shifted by a voxel, turned by a few degrees, or with noise.

What an adversary with queries can do to a scan at hand. A signal ``augmented:shift`` (or ``rotation``,
``noise``) holds models × snapshots × scans × copies predictions in years, float32, streamed as the other
signals are: one batch of volumes in memory, read once for all snapshots and kinds. Noise depends on the
seed, the scan's identity and the copy alone, never on batches or on the order of scans.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor
from torch.nn import functional

from privoxel.arrays import Float32Array
from privoxel.cohort.base import Cohort, ScanId
from privoxel.errors import SignalError
from privoxel.models.adapted import AdaptedModel
from privoxel.progress import Progress
from privoxel.seeding import Streams
from privoxel.signals.extract import Model, signal_file
from privoxel.signals.snapshots import OwnWeights, Snapshots, Weights
from privoxel.signals.table import AUGMENTED
from privoxel.training.runtime import Runtime

STEPS = tuple((axis, step) for axis in (0, 1, 2) for step in (-1, 1))


class Copies(StrEnum):
    """Kinds of copies; each gives six of a scan."""

    SHIFT = "shift"
    ROTATION = "rotation"
    NOISE = "noise"


@final
@dataclass(frozen=True)
class Augmentation:
    """Which copies are made.

    Shifts go one voxel each way along each axis, rotations ``degrees`` each way about each axis through the
    middle; noise is normal with an SD of ``noise`` times the volume's own.
    """

    kinds: tuple[Copies, ...] = (Copies.SHIFT,)
    degrees: float = 3.0
    noise: float = 0.1
    seed: int = 0
    batch_size: int = 8
    runtime: Runtime = field(default_factory=Runtime)


def extract_augmented(
    model: Model,
    snapshots: Sequence[Path],
    cohort: Cohort,
    augmentation: Augmentation,
    *,
    folder: Path,
    progress: Progress,
) -> dict[str, Path]:
    """Write the predictions on the copies of every scan for each snapshot, and return the files by signal.

    Without ``snapshots`` the model is taken as it is, with the weights that it has.

    Raises:
        SignalError: if a prediction is not finite, naming the scans' rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights: Weights = OwnWeights(model, augmentation.runtime)
    if snapshots:
        weights = Snapshots(model, snapshots, augmentation.runtime)
    names = {kind: f"{AUGMENTED}{kind}" for kind in augmentation.kinds}
    shape = (1, len(weights), len(cohort), len(STEPS))
    files = {name: folder / signal_file(name) for name in names.values()}
    arrays = {n: open_memmap(path, mode="w+", dtype=np.float32, shape=shape) for n, path in files.items()}
    with progress.task("augmented copies", len(cohort)) as task, torch.inference_mode():
        for start in range(0, len(cohort), augmentation.batch_size):
            rows = np.arange(start, min(start + augmentation.batch_size, len(cohort)))
            volumes = augmentation.runtime.volumes(cohort.batch(rows))
            scans = [cohort.covariates.scans[row] for row in rows]
            for kind, name in names.items():
                for k, moved in enumerate(copies_of(volumes, scans, kind, augmentation)):
                    for snapshot in range(len(weights)):
                        weights.use(snapshot)
                        arrays[name][0, snapshot, rows, k] = _ages(model, moved)
                _check_finite(name, arrays[name], rows)
            task.advance(len(rows))
    for array in arrays.values():
        array.flush()
    return files


def _ages(model: Model, volumes: Tensor) -> Float32Array:
    """Return the predicted ages of volumes, years."""
    output = model(volumes).float()
    ages: Tensor = model.head.ages(output) if isinstance(model, AdaptedModel) else output
    return ages.reshape(-1).cpu().numpy()


def copies_of(
    volumes: Tensor, scans: Sequence[ScanId], kind: Copies, augmentation: Augmentation
) -> Iterator[Tensor]:
    """Yield six copies of a batch of volumes (n, 1, x, y, z), in a fixed order."""
    for number, (axis, step) in enumerate(STEPS):
        if kind is Copies.SHIFT:
            yield shifted(volumes, axis, step)
        elif kind is Copies.ROTATION:
            yield rotated(volumes, axis, step * augmentation.degrees)
        else:
            yield noisy(volumes, scans, number, augmentation)


def shifted(volumes: Tensor, axis: int, step: int) -> Tensor:
    """Return the volumes moved by ``step`` voxels (±1) along ``axis``; the face left behind is repeated."""
    length = volumes.shape[2 + axis]
    source = torch.arange(length, device=volumes.device).sub(step).clamp(0, length - 1)
    return volumes.index_select(2 + axis, source)


def rotated(volumes: Tensor, axis: int, degrees: float) -> Tensor:
    """Return the volumes turned about ``axis`` through their middle, trilinear, edges repeated."""
    first, second = [a for a in range(3) if a != axis]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half = [(length - 1) / 2.0 for length in volumes.shape[2:]]
    matrix = torch.eye(3, 4, dtype=volumes.dtype, device=volumes.device)
    # grid_sample counts axes from the last, each from −1 to 1: a voxel is 1 / half long there.
    one, other = 2 - first, 2 - second
    matrix[one, one] = matrix[other, other] = cosine
    matrix[one, other] = -sine * half[second] / half[first]
    matrix[other, one] = sine * half[first] / half[second]
    where = functional.affine_grid(matrix.expand(len(volumes), 3, 4), list(volumes.shape), align_corners=True)
    return functional.grid_sample(volumes, where, padding_mode="border", align_corners=True)


def noisy(volumes: Tensor, scans: Sequence[ScanId], number: int, augmentation: Augmentation) -> Tensor:
    """Return the volumes with normal noise of ``noise`` times each volume's SD, by seed, scan and copy."""
    streams = Streams(augmentation.seed, "augmentation/noise/")
    draws = np.stack(
        [
            streams.generator(f"{scan.participant}/{scan.session}/{scan.rec}/{number}").standard_normal(
                volumes.shape[1:], dtype=np.float32
            )
            for scan in scans
        ]
    )
    spread = volumes.flatten(1).std(dim=1, correction=0).reshape(-1, 1, 1, 1, 1)
    return volumes + augmentation.noise * spread * torch.from_numpy(draws).to(volumes)


def _check_finite(name: str, array: np.memmap, rows: np.ndarray) -> None:
    bad = rows[~np.isfinite(array[0][:, rows]).all(axis=(0, 2))]
    if len(bad):
        raise SignalError(
            f"Signal {name} needs finite values, got others for the scans in rows {bad.tolist()}. "
            "Check these volumes and the model's weights."
        )
