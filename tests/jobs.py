"""Small jobs for tests of executors; importable by worker processes."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch

from privoxel.config import TrainingConfig
from privoxel.models import ModelSpec, build_model
from privoxel.progress import Silent
from privoxel.seeding import Streams
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.loop import train
from privoxel.training.runtime import Runtime
from tests.conftest import make_cohort


def train_tiny(name: str, folder: Path) -> list[float]:
    """Train a tiny model and return its curve and a digest of its weights."""
    cohort, streams = make_cohort(14), Streams(3).child(name)
    model = build_model(
        ModelSpec("cnn3d", width=0.125, head="scaled"),
        cohort.grid.shape,
        62.0,
        streams.seed("initialisation"),
    )
    folders = TrainingFolders(folder / name / "snapshots", folder / name / "state")
    job = TrainingJob(TrainingConfig(epochs=3, batch_size=4), streams, folders, Runtime(), Silent())
    rows = streams.generator("rows").permutation(14)
    trained = train(model, TrainingSet(cohort, rows[:10], rows[10:], loss_scale=50.0), job)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()]).double()
    return [point.train_mae for point in trained.curve] + weights[:5].tolist() + [float(weights.sum())]


def started(folder: Path, name: str) -> int:
    """Record that a job began, and return how often it has."""
    with (folder / f"{name}.starts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len((folder / f"{name}.starts").read_text().split())


def starts(folder: Path, name: str) -> int:
    return len((folder / f"{name}.starts").read_text().split())


def killed_at_first(folder: Path, name: str) -> str:
    """Die by SIGKILL in the middle of the first attempt, and end well in the second."""
    if started(folder, name) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def always_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def counted(folder: Path, name: str) -> str:
    started(folder, name)
    return name


def failing() -> None:
    raise ValueError("the job itself is wrong")


def threads() -> int:
    np.ones((3, 3)) @ np.ones((3, 3))
    return torch.get_num_threads()


def node_of(seconds: float) -> str:
    """Return the Ray node a job runs on, after some time."""
    import ray  # noqa: PLC0415 - an extra

    time.sleep(seconds)
    return ray.get_runtime_context().get_node_id()
