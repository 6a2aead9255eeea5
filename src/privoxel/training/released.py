"""Training what is released: the model itself or, with distillation, a student of it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import nn

from privoxel.cohort.base import Cohort
from privoxel.errors import ConfigError
from privoxel.training.defences.distillation import taught
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.loop import Trained, train


def train_released(
    model: nn.Module,
    training_set: TrainingSet,
    job: TrainingJob,
    *,
    public: Cohort | None,
    build: Callable[[float, int], nn.Module],
) -> Trained:
    """Train ``model`` in place into what is released, and return how that went.

    Args:
        model: the model to train; with distillation it is the teacher, and ends as the student.
        training_set: the members.
        job: how; a teacher's weights go to its ``state``, which no release holds.
        public: scans for the student.
        build: makes a student from a mean age (years) and a seed.

    Raises:
        ConfigError: if a student is asked for and there are no public scans.
    """
    distillation = job.defence.distillation
    if distillation is None:
        return train(model, training_set, job)
    if public is None:
        raise ConfigError("Distillation needs public scans, got none. Give a cohort of simulated brains.")
    hidden = job.folders.state / "teacher"
    teacher = train(model, training_set, replace(job, folders=TrainingFolders(hidden, hidden)))
    brains = taught(public, model, batch_size=job.config.batch_size, runtime=job.runtime)
    ages, streams = brains.covariates.age, job.streams.child("student")
    student = build(float(ages.mean()), streams.seed("initialisation"))
    epochs = distillation.epochs or job.config.epochs
    student_job = replace(
        job,
        config=job.config.model_copy(update={"epochs": epochs}),
        streams=streams,
        privacy=None,
        defence=job.defence.of_student,
        inherited=teacher.facts,
    )
    # only what the teacher predicts may say anything of the members, not even the SD of their ages
    scale = 1.0 if training_set.loss_scale == 1.0 else float(np.var(ages))
    everyone = np.arange(len(brains))
    trained = train(student, TrainingSet(brains, everyone, everyone[:0], scale), student_job)
    model.load_state_dict(student.state_dict())
    return trained._replace(seconds=teacher.seconds + trained.seconds)
