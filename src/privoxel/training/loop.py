"""Central training: one readable loop, deterministic by seed, resumable from its newest state.

Adam on the mean squared error (Gupta et al. 2021, A.1). The order of each epoch and its dropout
come from streams named after the epoch, so that a resumed run is the run that was not interrupted.
"""

import copy
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
from privoxel.training.composing import make_steps
from privoxel.training.curve import Epoch
from privoxel.training.job import TrainingJob, TrainingSet
from privoxel.training.resuming import Position, States, take_up_generators
from privoxel.training.runtime import Runtime
from privoxel.training.steps import Steps

DEFENCE = "defence."
"""What the names of facts about defences begin with in the header of a snapshot."""


class Trained(NamedTuple):
    """A finished training: its curve, its snapshots (oldest first) and the seconds of this call.

    ``facts`` are what is written beside the last weights.
    """

    curve: tuple[Epoch, ...]
    snapshots: tuple[Path, ...]
    seconds: float
    facts: dict[str, str]

    @property
    def privacy(self) -> dict[str, str]:
        """What a private training spent (``docs/private-training.md``); empty for any other."""
        return {name: value for name, value in self.facts.items() if not name.startswith(DEFENCE)}

    @property
    def defence(self) -> dict[str, str]:
        """What was done against attacks (``docs/defences.md``)."""
        return {n.removeprefix(DEFENCE): v for n, v in self.facts.items() if n.startswith(DEFENCE)}


def train(model: nn.Module, training_set: TrainingSet, job: TrainingJob) -> Trained:
    """Train ``model`` in place and return its curve and snapshots.

    Weights are kept every ``snapshot_every`` epochs and after the last; a call on folders of a killed
    run continues from its newest state (``resuming``), within an epoch too, and gives the same weights (a
    private training whose randomness is not seeded: others, with the same privacy).

    Raises:
        ModelError: if the loss stops being finite, naming the epoch, or the model cannot be private.
        ConfigError: if the privacy that is asked for cannot be had.
    """
    started = time.perf_counter()
    config, folders, limit = job.config, job.folders, job.defence.stop_gap
    if limit is not None and not len(training_set.validation):
        raise ConfigError("stop_gap needs validation scans, got none. Set [split] validation, or drop it.")
    job.runtime.place(model)
    steps = make_steps(model, training_set, job)
    states = States(model, steps, job)
    at = states.load()
    stopped: dict[str, str] = {}
    with job.progress.task("training", config.epochs * len(training_set.train)) as task:
        task.advance(len(at.curve) * len(training_set.train) + at.seen)
        while at.epoch <= config.epochs:
            if limit is not None and at.curve and not at.updates:
                at.before = copy.deepcopy(model.state_dict())
            point = _run_epoch(at, states, training_set, task)
            if (
                limit is not None
                and at.before is not None
                and (gap := _gap(model, training_set, job, point)) > limit
            ):
                model.load_state_dict(at.before)
                last = at.epoch - 1
                stopped = {f"{DEFENCE}stopped": f"after epoch {last}: gap {gap:.3f} years after the next"}
                save_weights(model, folders.snapshot(last), _facts(steps, last, job) | stopped)
                break
            at.close(point)
            if point.epoch % config.snapshot_every == 0 or point.epoch == config.epochs:
                save_weights(model, folders.snapshot(point.epoch), _facts(steps, point.epoch, job))
                states.save(at)
            else:
                states.save_if_due(at)
    facts = _facts(steps, len(at.curve), job) | stopped
    return Trained(tuple(at.curve), folders.existing(), time.perf_counter() - started, facts)


def _facts(steps: Steps, epoch: int, job: TrainingJob) -> dict[str, str]:
    """Return what is written beside the weights after ``epoch``."""
    settings = {f"{DEFENCE}{name}": value for name, value in job.defence.described.items()}
    return {**job.inherited, **settings, **steps.facts(epoch)}


def _run_epoch(at: Position, states: States, training_set: TrainingSet, task: Task) -> Epoch:
    """Make the updates that are left of the epoch that ``at`` is in, and return its point of the curve."""
    steps, job = states.steps, states.job
    with torch_stream(job.streams.seed(f"dropout/{at.epoch}")):
        take_up_generators(at)
        for rows in steps.batches(at.epoch, at.updates):
            at.advance(_sum_of(steps.update(rows).abs(), at.epoch), len(rows))
            task.advance(len(rows))
            states.save_if_due(at)
    steps.finish(at.epoch)
    validation_mae = _validation_mae(states.model, training_set, job)
    shown = f"{at.train_mae:.2f}" if validation_mae is None else f"{at.train_mae:.2f}/{validation_mae:.2f}"
    task.note(f"epoch {at.epoch}, MAE {shown} years")
    return Epoch(at.epoch, at.train_mae, validation_mae)


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
    return _mae(model, training_set.cohort, rows, job) if len(rows) else None


def _gap(model: nn.Module, training_set: TrainingSet, job: TrainingJob, point: Epoch) -> float:
    """Return validation minus training MAE, both in evaluation mode and with the scans as they are."""
    assert point.validation_mae is not None  # noqa: S101 - the caller checked that there are scans
    return point.validation_mae - _mae(model, training_set.cohort, training_set.train, job)


def _mae(model: nn.Module, cohort: Cohort, rows: IntArray, job: TrainingJob) -> float:
    predicted = predict_ages(model, cohort, rows, batch_size=job.config.batch_size, runtime=job.runtime)
    return float(np.abs(predicted - cohort.covariates.age[rows]).mean())


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
