"""What a killed training goes on from: its newest state, also from within an epoch.

A state is what makes the next update the one that an uninterrupted training would make: weights, optimiser,
generators and the position in the epoch's order. It lies in the folder ``state``, which no release holds.
Every snapshot comes with one; between snapshots one is kept whenever ``TrainingJob.state_seconds`` have
passed, so that short trainings write no more than before and long ones lose no more than that.
"""

import time
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn

from privoxel.errors import ModelError
from privoxel.store import atomic_path
from privoxel.training.curve import Epoch
from privoxel.training.job import TrainingJob
from privoxel.training.steps import Steps

STATE = "training.pt"
LARGEST_SHARE = 0.02
"""Share of the time that writing states may take; large models are therefore kept less often."""


@final
@dataclass
class Position:
    """How far a training is: the epochs behind it, and what it has done of the one it is in.

    ``before`` are the weights at the start of the epoch where it may have to be taken back. ``generators``
    are PyTorch's global ones (the CPU's, then each GPU's) in a training that goes on within an epoch.
    """

    curve: list[Epoch] = field(default_factory=list)
    updates: int = 0
    seen: int = 0
    absolute_error: float = 0.0
    before: dict[str, Tensor] | None = None
    generators: list[Tensor] | None = None

    @property
    def epoch(self) -> int:
        """The number of the epoch it is in, from 1."""
        return len(self.curve) + 1

    @property
    def train_mae(self) -> float:
        """Mean absolute error (years) of the scans shown in the epoch so far; not a number without any."""
        return self.absolute_error / self.seen if self.seen else float("nan")

    def advance(self, absolute_error: float, scans: int) -> None:
        """Count one update that showed ``scans``."""
        self.updates += 1
        self.seen += scans
        self.absolute_error += absolute_error

    def close(self, point: Epoch) -> None:
        """End the epoch."""
        self.curve.append(point)
        self.updates, self.seen, self.absolute_error, self.before = 0, 0, 0.0, None


@final
class States:
    """One training, and its state on disk."""

    def __init__(self, model: nn.Module, steps: Steps, job: TrainingJob) -> None:
        """Keep states of ``model`` and ``steps`` where ``job`` says."""
        self.model, self.steps, self.job = model, steps, job
        self._file = job.folders.state / STATE
        self._written, self._pause = time.monotonic(), job.state_seconds

    def load(self) -> Position:
        """Put the kept state into model and steps and return its position, the start if there is none.

        Raises:
            ModelError: if the state is of another model or version.
        """
        if not self._file.exists():
            return Position()
        state = torch.load(self._file, weights_only=True, map_location=self.job.runtime.device)
        try:
            self.model.load_state_dict(state["weights"])
        except (KeyError, RuntimeError) as error:
            raise ModelError(
                f"{self._file} needs to be the state of this model's training by this version, got: {error}. "
                "Remove it to train from the start."
            ) from error
        self.steps.load_state_dict(state["steps"])
        position = state["position"]
        return Position(**position | {"curve": [Epoch(*point) for point in position["curve"]]})

    def save(self, position: Position) -> None:
        """Keep the state at ``position``."""
        started = time.monotonic()
        state = {
            "weights": self.model.state_dict(),
            "steps": self.steps.state_dict(),
            "position": _plain(position),
        }
        with atomic_path(self._file) as temporary:
            torch.save(state, temporary)
        self._written = time.monotonic()
        self._pause = max(self.job.state_seconds, (self._written - started) / LARGEST_SHARE)

    def save_if_due(self, position: Position) -> None:
        """Keep the state if the last one is old."""
        if time.monotonic() - self._written >= self._pause:
            self.save(position)


def take_up_generators(position: Position) -> None:
    """Set PyTorch's global generators to where they were at ``position``, if that is within an epoch."""
    if position.generators is None:
        return
    own, *others = (state.cpu() for state in position.generators)
    torch.set_rng_state(own)
    if others:
        torch.cuda.set_rng_state_all(others)
    position.generators = None


def _plain(position: Position) -> dict[str, Any]:
    """Return ``position`` in plain types, with the generators if it is within an epoch."""
    generators = None
    if position.updates:
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        generators = [torch.get_rng_state(), *gpus]
    return {
        "curve": [tuple(point) for point in position.curve],
        "updates": position.updates,
        "seen": position.seen,
        "absolute_error": position.absolute_error,
        "before": position.before,
        "generators": generators,
    }
