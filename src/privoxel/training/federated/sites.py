"""Where learners compute: a machine's sites, and which of them a Flower node is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from flwr.app import Context
from torch import nn

from privoxel.arrays import IntArray
from privoxel.cohort.base import Cohort
from privoxel.seeding import Streams
from privoxel.training.federated.active import Ascent
from privoxel.training.federated.job import Learner
from privoxel.training.federated.local import LocalScans
from privoxel.training.runtime import Runtime

PARTITION = "partition-id"


@final
@dataclass(frozen=True)
class Sites:
    """Learners that share a machine: their scans, and one network that they train in turn."""

    cohort: Cohort
    learners: tuple[Learner, ...]
    build: Callable[[], nn.Module]
    streams: Streams
    runtime: Runtime
    ascent: Ascent | None = None
    secret: bytes | None = None

    @cached_property
    def model(self) -> nn.Module:
        """The network of this process, made once; every message brings its weights."""
        return self.runtime.place(self.build())

    def of(self, context: Context) -> "Site":
        """Return the site of a simulated node, by its partition number."""
        learner = self.learners[int(context.node_config[PARTITION])]
        return Site(learner.name, self.cohort, learner.rows, self)


@final
@dataclass(frozen=True)
class Site:
    """One learner where it computes."""

    name: str
    cohort: Cohort
    rows: IntArray
    shared: Sites

    @property
    def streams(self) -> Streams:
        """The learner's own randomness."""
        return self.shared.streams.child(f"learner/{self.name}")

    @property
    def ascent(self) -> Ascent | None:
        """What this learner does to its update if it is the active one."""
        plan = self.shared.ascent
        return plan if plan is not None and plan.learner == self.name else None

    @property
    def scans(self) -> LocalScans:
        """What ``train_locally`` reads."""
        return LocalScans(self.cohort, self.rows, self.streams, self.shared.runtime)


def partitions(learners: Sequence[Learner]) -> list[dict[str, int]]:
    """Return the node configurations that Flower's simulation gives to the learners, in their order."""
    return [{PARTITION: k, "num-partitions": len(learners)} for k in range(len(learners))]
