"""What a training is asked to do: on which scans, with which settings, into which folders."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from privoxel.arrays import IntArray
from privoxel.cohort.base import Cohort
from privoxel.config import TrainingConfig
from privoxel.defence_config import DefenceConfig
from privoxel.privacy_config import PrivacyConfig
from privoxel.progress import Progress
from privoxel.seeding import Streams
from privoxel.training.runtime import Runtime


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
    """How one training runs: its settings, randomness, folders, machine and who watches.

    ``privacy`` makes it differentially private; ``defence`` says what else is done against attacks.
    ``inherited`` are facts of what this training learns from, written beside its weights. A killed training
    loses the work of ``state_seconds`` at most.
    """

    config: TrainingConfig
    streams: Streams
    folders: TrainingFolders
    runtime: Runtime
    progress: Progress
    privacy: PrivacyConfig | None = None
    defence: DefenceConfig = field(default_factory=DefenceConfig)
    inherited: Mapping[str, str] = field(default_factory=dict)
    state_seconds: float = 60.0
