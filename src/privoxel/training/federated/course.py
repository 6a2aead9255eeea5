"""Where a federation stands, and what every round does at its start and its end, whatever averages it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np
from flwr.serverapp import Grid
from torch import nn

from privoxel.arrays import Float32Array
from privoxel.errors import FederationError
from privoxel.progress import Task
from privoxel.seeding import Streams
from privoxel.training.federated.job import FederationJob
from privoxel.training.federated.ledger import Ledger, Round
from privoxel.training.federated.records import Weights
from privoxel.training.federated.roster import Roster
from privoxel.training.pruning import pruned, sparsity_at


@final
@dataclass
class Course:
    """A federation under way; ``model`` only carries weights to files, ``finished`` grows."""

    job: FederationJob
    model: nn.Module
    ledger: Ledger
    roster: Roster
    streams: Streams
    task: Task
    finished: list[Round] = field(default_factory=list)

    def present(self, grid: Grid, number: int) -> dict[int, str]:
        """Return the learners that round ``number`` can ask, by node, once they are there."""
        away = self.job.absent.get(number, ())
        wanted = [name for name in self.roster.expected if name not in away]
        online = self.roster.wait(grid, wanted, self.job.patience_seconds)
        return {node: name for node, name in online.items() if name in wanted}

    def absent(self, asked: Collection[str]) -> tuple[str, ...]:
        """Return the learners that are not among those ``asked``, in their order."""
        return tuple(name for name in self.roster.expected if name not in asked)

    def require_enough(self, entry: Round) -> None:
        """Raise ``FederationError`` naming who is missing if too few learners took part."""
        least = self.job.minimum_learners
        if len(entry.took_part) < least:
            raise FederationError(
                f"Round {entry.number} needs usable updates of at least {least} learners, got "
                f"{len(entry.took_part)}; without one: {entry.left_out()}. Mend these learners and resume; "
                "the finished rounds are kept."
            )

    def close(self, entry: Round, weights: Weights, state: Mapping[str, Float32Array]) -> Weights:
        """Keep the community model of a round and what the server's optimiser knows after it.

        Returns:
            the model as it was kept: with ``sparsity``, its smallest weights are zero.

        Raises:
            FederationError: if the model is not finite.
        """
        if not weights or not all(np.isfinite(value).all() for value in weights.values()):
            raise FederationError(
                f"Round {entry.number} needs a finite community model, got one that is not. "
                "Lower server_learning_rate or the noise."
            )
        if self.job.sparsity:
            weights = pruned(weights, sparsity_at(entry.number, self.job.rounds, self.job.sparsity))
        self.finished.append(entry)
        self.ledger.commit(self.model, weights, self.finished, state)
        self.task.advance()
        self.task.note(self._shown(entry))
        return weights

    def _shown(self, entry: Round) -> str:
        text = f"round {entry.number}, {len(entry.took_part)} of {len(self.roster.expected)} learners"
        if entry.train_mae:
            text += f", MAE {float(np.mean(list(entry.train_mae.values()))):.2f} years"
        left_out = entry.left_out()
        return f"{text}; without {left_out}" if left_out else text
