"""Which steps a training has: those its privacy and defences ask for, one around the other."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from privoxel.config import TrainingConfig
from privoxel.errors import ConfigError
from privoxel.privacy_config import PrivacyConfig
from privoxel.training.defences.averaging import Averaged
from privoxel.training.defences.projection import ProjectedSteps
from privoxel.training.defences.sparsity import Pruned
from privoxel.training.job import TrainingJob, TrainingSet
from privoxel.training.private.planning import check_plan
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
    with _needs_extra():
        from privoxel.training.private.steps import PrivateSteps  # noqa: PLC0415 - an extra, slow to import
    return PrivateSteps(model, training_set, job)


def check_privacy(participants: int, config: TrainingConfig, privacy: PrivacyConfig) -> None:
    """Refuse a private training on ``participants`` that would be refused later.

    Raises:
        ConfigError: if the privacy that is asked for cannot be had, or Opacus is not installed.
    """
    with _needs_extra():
        check_plan(participants, config, privacy)


@contextmanager
def _needs_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"[privacy] needs the packages of the extra 'dp' ({error}). Install: pip install 'privoxel[dp]'."
        ) from error
