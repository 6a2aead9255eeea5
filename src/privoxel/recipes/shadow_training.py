"""Training one reference model as a job: everything a worker process needs, and what it leaves.

A shadow is trained as its target is, on ages; a student on the predictions of the target. Each has its own
seed and one thread, starts from random weights or from given ones, and keeps its weights in the run folder.
"""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.cohort.base import Cohort
from privoxel.config import ModelConfig, TrainingConfig
from privoxel.defence_config import DefenceConfig
from privoxel.privacy_config import PrivacyConfig
from privoxel.progress import Silent
from privoxel.recipes.target import started
from privoxel.seeding import Streams
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.loop import predict_ages
from privoxel.training.released import train_released
from privoxel.training.runtime import Runtime


@final
@dataclass(frozen=True)
class ShadowTraining:
    """One reference model to train on the scans at ``rows``; ``unseen`` are scans to measure it on.

    ``start`` holds the weights it begins from (random ones if None), ``warm`` the folders of a finished
    training whose last weights take their place. ``taught`` is what it learns for each of ``rows``, years:
    the target's predictions for a student, the ages if None. ``validation`` are the rows that decide when
    training stops, those of the target.
    """

    settings: ModelConfig
    training: TrainingConfig
    cohort: Cohort
    rows: IntArray
    unseen: IntArray
    streams: Streams
    folders: TrainingFolders
    runtime: Runtime
    start: Path | None = None
    taught: FloatArray | None = None
    warm: TrainingFolders | None = None
    privacy: PrivacyConfig | None = None
    defence: DefenceConfig = field(default_factory=DefenceConfig)
    validation: IntArray | None = None
    public: Cohort | None = None


def train_shadow(shadow: ShadowTraining) -> dict[str, float]:
    """Train a reference model, keep its weights, and return its MAE (years) on its own and unseen scans.

    The process is set up as the target's was, whoever's it is.

    Raises:
        ConfigError: if the process sees no device of the kind that the shadow is to be trained on.
    """
    shadow.runtime.prepare()
    cohort, ages = shadow.cohort, shadow.cohort.covariates.age
    lessons = _taught(shadow)
    mine = lessons.covariates.age[shadow.rows]
    seed = shadow.streams.seed("initialisation")
    start = shadow.warm.existing()[-1] if shadow.warm is not None else shadow.start
    model = started(shadow.settings, cohort, float(mine.mean()), seed, start)
    scale = float(np.var(mine)) if shadow.settings.head == "scaled" else 1.0
    validation = np.empty(0, dtype=np.int64) if shadow.validation is None else shadow.validation
    train_released(
        model,
        TrainingSet(lessons, shadow.rows, validation, loss_scale=scale),
        TrainingJob(
            shadow.training,
            shadow.streams,
            shadow.folders,
            shadow.runtime,
            Silent(),
            shadow.privacy,
            shadow.defence,
        ),
        public=shadow.public,
        build=lambda mean_age, seed: started(shadow.settings, cohort, mean_age, seed, shadow.start),
    )
    shutil.rmtree(shadow.folders.state, ignore_errors=True)
    errors = {}
    for name, rows in (("members", shadow.rows), ("non_members", shadow.unseen)):
        predicted = predict_ages(
            model, cohort, rows, batch_size=shadow.training.batch_size, runtime=shadow.runtime
        )
        errors[name] = float(np.abs(predicted - ages[rows]).mean())
    return errors


def _taught(shadow: ShadowTraining) -> Cohort:
    """Return the cohort with what is learnt in the place of the ages."""
    cohort = shadow.cohort
    if shadow.taught is None:
        return cohort
    labels = cohort.covariates.age.copy()
    labels[shadow.rows] = shadow.taught
    return replace(cohort, covariates=replace(cohort.covariates, age=labels))
