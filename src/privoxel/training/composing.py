"""Which steps a training has: those its privacy and defences ask for, one around the other."""

from torch import nn

from privoxel.errors import ConfigError
from privoxel.training.defences.averaging import Averaged
from privoxel.training.defences.projection import ProjectedSteps
from privoxel.training.defences.sparsity import Pruned
from privoxel.training.job import TrainingJob, TrainingSet
from privoxel.training.steps import PlainSteps, Steps


def make_steps(model: nn.Module, training_set: TrainingSet, job: TrainingJob) -> Steps:
    """Return the steps of ``job``; weights are averaged before they are pruned.

    Raises:
        ModelError: if the model cannot be trained so.
        ConfigError: if settings do not go together, or the privacy that is asked for cannot be had.
    """
    conflicts = list(job.defence.conflicts(private=job.privacy is not None, validation=True))
    if conflicts:
        raise ConfigError(f"[defence] {'; '.join(conflicts)}. Drop one of the two.")
    steps = _innermost(model, training_set, job)
    if job.defence.average_last:
        steps = Averaged(steps, model, last=job.defence.average_last, epochs=job.config.epochs)
    if job.defence.sparsity:
        steps = Pruned(steps, model, final_share=job.defence.sparsity, epochs=job.config.epochs)
    return steps


def _innermost(model: nn.Module, training_set: TrainingSet, job: TrainingJob) -> Steps:
    if job.defence.keep_unique is not None:
        return ProjectedSteps(model, training_set, job, keep=job.defence.keep_unique)
    if job.privacy is None:
        return PlainSteps(model, training_set, job)
    try:
        from privoxel.training.private.steps import PrivateSteps  # noqa: PLC0415 - an extra, slow to import
    except ImportError as error:
        raise ConfigError(
            f"[privacy] needs the packages of the extra 'dp' ({error}). Install: pip install 'privoxel[dp]'."
        ) from error
    return PrivateSteps(model, training_set, job)
