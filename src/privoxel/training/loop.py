"""Central training: one readable loop, deterministic by seed, resumable from its newest snapshot.

Adam on the mean squared error (Gupta et al. 2021, A.1). The order of each epoch and its dropout
come from streams named after the epoch, so that a resumed run is the run that was not interrupted.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from privoxel.arrays import FloatArray, IntArray
from privoxel.cohort.base import Cohort
from privoxel.config import TrainingConfig
from privoxel.errors import ModelError
from privoxel.progress import Progress, Task
from privoxel.seeding import Streams, torch_stream
from privoxel.store import atomic_path
from privoxel.training.runtime import Runtime

STATE = "training.pt"


@final
@dataclass(frozen=True)
class TrainingSet:
    """What a model is trained on: rows of a cohort, and rows that only draw the validation curve.

    ``loss_scale`` divides the squared error (years²); the scaled head trains in units of the age SD.
    """

    cohort: Cohort
    train: IntArray
    validation: IntArray
    loss_scale: float = 1.0


class Epoch(NamedTuple):
    """Mean absolute errors (years) after one epoch, the training one as seen during it (dropout on)."""

    epoch: int
    train_mae: float
    validation_mae: float | None


class Trained(NamedTuple):
    """A finished training: its curve, its snapshots (oldest first) and the seconds of this call."""

    curve: tuple[Epoch, ...]
    snapshots: tuple[Path, ...]
    seconds: float


@final
@dataclass(frozen=True)
class TrainingFolders:
    """Where weights (``snapshots``, kept) and optimiser state (``state``, removed at completion) go."""

    snapshots: Path
    state: Path

    def snapshot(self, epoch: int) -> Path:
        """Return the file of the weights after ``epoch``."""
        return self.snapshots / f"epoch-{epoch:04d}.safetensors"

    def existing(self) -> tuple[Path, ...]:
        """Return the snapshots on disk, oldest first."""
        return tuple(sorted(self.snapshots.glob("epoch-*.safetensors")))


@final
@dataclass(frozen=True)
class TrainingJob:
    """How one training runs: its settings, randomness, folders, machine and who watches."""

    config: TrainingConfig
    streams: Streams
    folders: TrainingFolders
    runtime: Runtime
    progress: Progress


def train(model: nn.Module, training_set: TrainingSet, job: TrainingJob) -> Trained:
    """Train ``model`` in place and return its curve and snapshots.

    Weights are kept every ``snapshot_every`` epochs and after the last; a call on folders of a killed
    run continues after its newest snapshot and gives the same weights.

    Raises:
        ModelError: if the loss stops being finite, naming the epoch.
    """
    started = time.perf_counter()
    config, folders = job.config, job.folders
    job.runtime.place(model)
    optimiser = torch.optim.Adam(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, foreach=True
    )
    curve = _resume(model, optimiser, job)
    with job.progress.task("training", config.epochs * len(training_set.train)) as task:
        task.advance(len(curve) * len(training_set.train))
        for epoch in range(len(curve) + 1, config.epochs + 1):
            curve.append(_run_epoch(epoch, model, optimiser, training_set, job, task=task))
            if epoch % config.snapshot_every == 0 or epoch == config.epochs:
                _keep(epoch, model, optimiser, curve, folders)
    return Trained(tuple(curve), folders.existing(), time.perf_counter() - started)


def _run_epoch(
    epoch: int,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    training_set: TrainingSet,
    job: TrainingJob,
    *,
    task: Task,
) -> Epoch:
    runtime = job.runtime
    ages = training_set.cohort.covariates.age
    order = job.streams.generator(f"order/{epoch}").permutation(training_set.train)
    absolute_error = 0.0
    model.train()
    with torch_stream(job.streams.seed(f"dropout/{epoch}")):
        for rows in _batches(order, job.config.batch_size):
            volumes = runtime.volumes(training_set.cohort.batch(rows))
            age = torch.as_tensor(ages[rows], dtype=torch.float32, device=runtime.device)
            with runtime.autocast():
                prediction = model(volumes)
            residual = prediction.float() - age
            loss = residual.square().mean() / training_set.loss_scale
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            absolute_error += _sum_of(residual.detach().abs(), epoch)
            task.advance(len(rows))
    train_mae = absolute_error / len(order)
    validation_mae = _validation_mae(model, training_set, job)
    shown = f"{train_mae:.2f}" if validation_mae is None else f"{train_mae:.2f}/{validation_mae:.2f}"
    task.note(f"epoch {epoch}, MAE {shown} years")
    return Epoch(epoch, train_mae, validation_mae)


def _sum_of(values: Tensor, epoch: int) -> float:
    total = float(values.sum())
    if not np.isfinite(total):
        raise ModelError(
            f"Training needs finite predictions, got {total} in epoch {epoch}. "
            "Lower [training] learning_rate, or set precision = 'float32'."
        )
    return total


def _validation_mae(model: nn.Module, training_set: TrainingSet, job: TrainingJob) -> float | None:
    rows = training_set.validation
    if not len(rows):
        return None
    predicted = predict_ages(
        model, training_set.cohort, rows, batch_size=job.config.batch_size, runtime=job.runtime
    )
    return float(np.abs(predicted - training_set.cohort.covariates.age[rows]).mean())


def predict_ages(
    model: nn.Module, cohort: Cohort, rows: IntArray, *, batch_size: int, runtime: Runtime
) -> FloatArray:
    """Return the predicted ages (years) of the scans at ``rows``, in evaluation mode."""
    model.eval()
    out = np.empty(len(rows))
    position = 0
    with torch.inference_mode():
        for chunk in _batches(rows, batch_size):
            with runtime.autocast():
                predicted = model(runtime.volumes(cohort.batch(chunk)))
            out[position : position + len(chunk)] = predicted.float().cpu().numpy()
            position += len(chunk)
    return out


def _batches(rows: IntArray, size: int) -> Iterator[IntArray]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _keep(
    epoch: int,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    curve: list[Epoch],
    folders: TrainingFolders,
) -> None:
    save_weights(model, folders.snapshot(epoch))
    state = {"epoch": epoch, "curve": [tuple(point) for point in curve], "optimiser": optimiser.state_dict()}
    with atomic_path(folders.state / STATE) as temporary:
        torch.save(state, temporary)


def _resume(model: nn.Module, optimiser: torch.optim.Optimizer, job: TrainingJob) -> list[Epoch]:
    state_file = job.folders.state / STATE
    if not state_file.exists():
        return []
    state = torch.load(state_file, weights_only=True, map_location=job.runtime.device)
    load_weights(model, job.folders.snapshot(state["epoch"]))
    optimiser.load_state_dict(state["optimiser"])
    return [Epoch(*point) for point in state["curve"]]


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the weights of ``model`` as safetensors, atomically."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(weights, os.fspath(temporary))


def load_weights(model: nn.Module, path: Path) -> None:
    """Read weights written by ``save_weights`` into ``model``.

    Raises:
        ModelError: if the file does not hold exactly the model's tensors.
    """
    try:
        model.load_state_dict(load_file(os.fspath(path)))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path.name} needs the weights of this model, got: {error}.") from error
