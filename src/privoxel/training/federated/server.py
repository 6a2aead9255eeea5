"""The server: the rounds of a federation over any Flower grid, from where its folder stands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from flwr.app import ConfigRecord
from flwr.serverapp import Grid
from torch import nn

from privoxel.progress import Progress
from privoxel.seeding import Streams
from privoxel.training.federated.course import Course
from privoxel.training.federated.guarded import Guarded
from privoxel.training.federated.job import FederationJob
from privoxel.training.federated.ledger import Federation, Ledger
from privoxel.training.federated.privacy import SecureAggregation
from privoxel.training.federated.quiet import quiet_flower
from privoxel.training.federated.records import Weights, refuse_running_statistics, to_record
from privoxel.training.federated.roster import Roster
from privoxel.training.federated.secure import average_securely
from privoxel.training.federated.strategy import restore_state, strategy_of


@final
@dataclass(frozen=True)
class Server:
    """What a server needs to run a federation: everything but the grid.

    ``learners`` are the names in the order of the mean; ``build`` returns the network with its initial
    weights; ``streams`` hold the randomness of the server's noise; ``facts`` are further settings that decide
    whether a folder holds the same federation. ``registered`` says which learner's key each node has shown,
    where nodes show keys.
    """

    job: FederationJob
    learners: tuple[str, ...]
    build: Callable[[], nn.Module]
    folder: Path
    streams: Streams
    progress: Progress
    facts: Mapping[str, Any]
    registered: Mapping[int, str] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        """The folder's record."""
        settings = {"job": self.job.to_dict(), "learners": list(self.learners), **self.facts}
        return Ledger(self.folder, settings)

    def is_done(self) -> bool:
        """Whether the folder holds every round."""
        return len(self.ledger.rounds()) >= self.job.rounds

    def conduct(self, grid: Grid) -> Federation:
        """Run the rounds that the folder lacks, and return what it then holds.

        Raises:
            FederationError: if a round has too few usable updates, or the folder another federation.
            ModelError: if the model learns through running statistics.
        """
        ledger, job = self.ledger, self.job
        model = self.build()
        refuse_running_statistics(model)
        weights = ledger.begin(model)
        finished = list(ledger.rounds())
        with quiet_flower(), self.progress.task("federation", job.rounds) as task:
            task.advance(len(finished))
            roster = Roster(self.learners, self.registered)
            course = Course(job, model, ledger, roster, self.streams, task, finished)
            if isinstance(job.privacy, SecureAggregation):
                average_securely(grid, course, weights, job.privacy)
            else:
                average(grid, course, weights)
        ledger.close()
        return ledger.federation()


def average(grid: Grid, course: Course, weights: Weights) -> None:
    """Run the rounds that ``course`` lacks through the job's Flower strategy, from ``weights``."""
    job, done = course.job, len(course.finished)
    inner = strategy_of(job, len(course.roster.expected))
    restore_state(inner, course.ledger.server_state(done))
    Guarded(inner, course).start(
        grid,
        to_record(weights),
        num_rounds=job.rounds - done,
        timeout=job.round_seconds,
        train_config=ConfigRecord(dict(job.local)),
    )
