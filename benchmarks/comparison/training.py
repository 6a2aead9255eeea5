"""Targets, references and shadows: each trained once, one folder of snapshots each, nothing trained twice.

A training keeps a snapshot at each level's epoch. There is no schedule of the learning rate, so that the
snapshot after 10 of 24 epochs is the model that a training of 10 epochs gives.
"""

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import numpy as np

from comparison.people import Groups
from comparison.settings import LEVELS, Comparison, Network
from privoxel.arrays import IntArray
from privoxel.cohort.base import Cohort
from privoxel.models import build_model, spec_of
from privoxel.models.base import AuditableModel
from privoxel.progress import Silent
from privoxel.seeding import Streams
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.loop import train
from privoxel.training.runtime import choose_runtime


class Planned(NamedTuple):
    """One training: its name in folders, its network and the rows of the cohort that it sees."""

    name: str
    network: Network
    rows: IntArray


@final
@dataclass(frozen=True)
class Bench:
    """What every stage shares; the attacks ``again`` are scored although their scores are there."""

    settings: Comparison
    cohort: Cohort
    output: Path
    again: tuple[str, ...] = ()

    @property
    def groups(self) -> Groups:
        """Who is who."""
        return Groups(self.settings)

    def snapshot(self, name: str, network: Network, level: str) -> Path:
        """Return the weights of a training at a level."""
        return self.output / "models" / name / f"epoch-{network.epochs[level]:04d}.safetensors"


def planned(settings: Comparison) -> Iterator[Planned]:
    """Yield every training: kinds in turn, so that a part of the run is of use."""
    groups, counts = Groups(settings), settings.trainings
    inside = groups.shadows()
    for network in settings.networks:
        net = network.model.name
        for number in range(counts.references):
            yield Planned(f"{net}/reference-{number}", network, groups.reference(number))
        for number in range(counts.targets):
            members = np.flatnonzero(groups.target(number, 1).members)
            yield Planned(f"{net}/target-{number}", network, members)
    for network in settings.networks:
        for number in range(counts.shadows):
            yield Planned(f"{network.model.name}/shadow-{number}", network, np.flatnonzero(inside[number]))


def untrained(network: Network, cohort: Cohort, rows: IntArray, streams: Streams) -> AuditableModel:
    """Return the network before its first step; its constant part is the mean age of its people."""
    mean_age = float(cohort.covariates.age[rows].mean())
    return build_model(spec_of(network.model), cohort.grid.shape, mean_age, streams.seed("initialisation"))


def train_one(plan: Planned, bench: Bench) -> float | None:
    """Train one model unless its last snapshot is there; return its seconds, or None if it was."""
    if all(bench.snapshot(plan.name, plan.network, level).exists() for level in LEVELS):
        return None
    streams = bench.groups.streams.child(plan.name)
    model = untrained(plan.network, bench.cohort, plan.rows, streams)
    config = bench.settings.training.model_copy(
        update={
            "epochs": plan.network.last,
            "learning_rate": plan.network.learning_rate,
            "snapshot_every": math.gcd(*plan.network.epochs.values()),
        }
    )
    ages = bench.cohort.covariates.age[plan.rows]
    scale = float(np.var(ages)) if plan.network.model.head == "scaled" else 1.0
    nobody = np.empty(0, dtype=np.int64)
    folders = TrainingFolders(bench.output / "models" / plan.name, bench.output / "state" / plan.name)
    job = TrainingJob(config, streams, folders, choose_runtime(config), Silent())
    trained = train(model, TrainingSet(bench.cohort, plan.rows, nobody, loss_scale=scale), job)
    kept = {bench.snapshot(plan.name, plan.network, level) for level in LEVELS}
    for snapshot in set(trained.snapshots) - kept:
        snapshot.unlink()
    shutil.rmtree(folders.state, ignore_errors=True)
    return trained.seconds


def train_all(bench: Bench) -> None:
    """Train whatever is missing, and say how long each took."""
    plans = list(planned(bench.settings))
    for k, plan in enumerate(plans, 1):
        seconds = train_one(plan, bench)
        said = "there already" if seconds is None else f"{seconds:.0f} s"
        print(f"{k}/{len(plans)} {plan.name}: {len(plan.rows)} people, {said}", flush=True)
