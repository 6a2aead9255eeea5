"""Central training: one readable loop, deterministic by seed, resumable from its newest snapshot.

Adam on the mean squared error (Gupta et al. 2021, A.1). The order of each epoch and its dropout
come from streams named after the epoch, so that a resumed run is the run that was not interrupted.
"""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from privoxel.arrays import FloatArray, IntArray
from privoxel.cohort.base import Cohort
from privoxel.errors import ConfigError, ModelError
from privoxel.progress import Task
from privoxel.seeding import torch_stream
from privoxel.store import atomic_path
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.runtime import Runtime
from privoxel.training.steps import PlainSteps, Steps

STATE = "training.pt"


class Epoch(NamedTuple):
    """Mean absolute errors (years) after one epoch, the training one as seen during it (dropout on)."""

    epoch: int
    train_mae: float
    validation_mae: float | None


class Trained(NamedTuple):
    """A finished training: its curve, its snapshots (oldest first) and the seconds of this call.

    ``privacy`` says what a private training spent (``docs/private-training.md``); empty for any other.
    """

    curve: tuple[Epoch, ...]
    snapshots: tuple[Path, ...]
    seconds: float
    privacy: dict[str, str]


def train(model: nn.Module, training_set: TrainingSet, job: TrainingJob) -> Trained:
    """Train ``model`` in place and return its curve and snapshots.

    Weights are kept every ``snapshot_every`` epochs and after the last; a call on folders of a killed
    run continues after its newest snapshot and gives the same weights (a private training whose randomness is
    not seeded: others, with the same privacy).

    Raises:
        ModelError: if the loss stops being finite, naming the epoch, or the model cannot be private.
        ConfigError: if the privacy that is asked for cannot be had.
    """
    started = time.perf_counter()
    config, folders = job.config, job.folders
    job.runtime.place(model)
    steps = _steps(model, training_set, job)
    curve = _resume(model, steps, job)
    with job.progress.task("training", config.epochs * len(training_set.train)) as task:
        task.advance(len(curve) * len(training_set.train))
        for epoch in range(len(curve) + 1, config.epochs + 1):
            curve.append(_run_epoch(epoch, model, steps, training_set, job, task=task))
            if epoch % config.snapshot_every == 0 or epoch == config.epochs:
                _keep(model, steps, curve, folders)
    privacy = dict(steps.facts(config.epochs))
    return Trained(tuple(curve), folders.existing(), time.perf_counter() - started, privacy)


def _steps(model: nn.Module, training_set: TrainingSet, job: TrainingJob) -> Steps:
    if job.privacy is None:
        return PlainSteps(model, training_set, job)
    try:
        from privoxel.training.private.steps import PrivateSteps  # noqa: PLC0415 - an extra, slow to import
    except ImportError as error:
        raise ConfigError(
            f"[privacy] needs the packages of the extra 'dp' ({error}). Install: pip install 'privoxel[dp]'."
        ) from error
    return PrivateSteps(model, training_set, job)


def _run_epoch(
    epoch: int, model: nn.Module, steps: Steps, training_set: TrainingSet, job: TrainingJob, *, task: Task
) -> Epoch:
    absolute_error, seen = 0.0, 0
    with torch_stream(job.streams.seed(f"dropout/{epoch}")):
        for rows in steps.batches(epoch):
            absolute_error += _sum_of(steps.update(rows).abs(), epoch)
            seen += len(rows)
            task.advance(len(rows))
    train_mae = absolute_error / seen if seen else float("nan")
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


def _keep(model: nn.Module, steps: Steps, curve: list[Epoch], folders: TrainingFolders) -> None:
    epoch = len(curve)
    save_weights(model, folders.snapshot(epoch), steps.facts(epoch))
    state = {"epoch": epoch, "curve": [tuple(point) for point in curve], "optimiser": steps.state_dict()}
    with atomic_path(folders.state / STATE) as temporary:
        torch.save(state, temporary)


def _resume(model: nn.Module, steps: Steps, job: TrainingJob) -> list[Epoch]:
    state_file = job.folders.state / STATE
    if not state_file.exists():
        return []
    state = torch.load(state_file, weights_only=True, map_location=job.runtime.device)
    load_weights(model, job.folders.snapshot(state["epoch"]))
    steps.load_state_dict(state["optimiser"])
    return [Epoch(*point) for point in state["curve"]]


def save_weights(model: nn.Module, path: Path, facts: Mapping[str, str] | None = None) -> None:
    """Write the weights of ``model`` as safetensors, atomically, with ``facts`` in the file's header."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(weights, os.fspath(temporary), dict(facts or {}) or None)


def load_weights(model: nn.Module, path: Path) -> None:
    """Read weights written by ``save_weights`` into ``model``.

    Raises:
        ModelError: if the file does not hold exactly the model's tensors.
    """
    try:
        model.load_state_dict(load_file(os.fspath(path)))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path.name} needs the weights of this model, got: {error}.") from error
