"""From rows of a cohort to the batch that a model is shown, with the changes that defences make to it."""

from functools import reduce
from typing import final

import torch

from privoxel.arrays import IntArray
from privoxel.defence_config import DefenceConfig
from privoxel.seeding import Streams
from privoxel.training.batch import Batch, Change
from privoxel.training.defences.augmentation import Augmentation
from privoxel.training.defences.label_noise import LabelNoise
from privoxel.training.defences.mixup import Mixup
from privoxel.training.job import TrainingJob, TrainingSet


@final
class Reader:
    """Reads the batches of one training."""

    def __init__(self, training_set: TrainingSet, job: TrainingJob) -> None:
        """Prepare to read scans of ``training_set`` as ``job`` asks."""
        self._cohort, self._runtime = training_set.cohort, job.runtime
        self._changes = changes_of(job.defence, job.streams, self._cohort.grid.voxel_mm)

    def read(self, rows: IntArray, moment: str) -> Batch:
        """Return the scans at ``rows``, changed as the defences do at ``moment`` (epoch/update)."""
        known = self._cohort.covariates
        ages = torch.as_tensor(known.age[rows], dtype=torch.float32, device=self._runtime.device)
        volumes = self._runtime.volumes(self._cohort.batch(rows))
        batch = Batch(moment, tuple(known.scans[row] for row in rows), volumes, ages)
        return reduce(lambda shown, change: change(shown), self._changes, batch)


def changes_of(defence: DefenceConfig, streams: Streams, voxel_mm: float) -> tuple[Change, ...]:
    """Return what ``defence`` does to batches, in order: ages, then volumes, then pairs of both."""
    changes: list[Change] = []
    if defence.label_noise:
        changes.append(LabelNoise(defence.label_noise, streams.child("label-noise")))
    if defence.augmentation.is_on:
        changes.append(Augmentation(defence.augmentation, voxel_mm, streams.child("augmentation")))
    if defence.mixup is not None:
        changes.append(Mixup(defence.mixup, streams.child("mixup")))
    return tuple(changes)
