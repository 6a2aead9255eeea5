"""Who is connected: the learners behind the nodes of a grid, as they say themselves."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import final

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from privoxel.errors import FederationError
from privoxel.training.federated.client import IDENTITY, ROSTER
from privoxel.training.federated.fingerprints import prepared_otherwise, shared_images

INTERVAL_SECONDS = 0.5
ANSWER_SECONDS = 600.0


@final
@dataclass
class Roster:
    """Names of nodes, asked once for each node; ``expected`` are the learners of the federation, in order.

    Nodes of other names are ignored. A learner that returns as a new node takes its name along.
    """

    expected: tuple[str, ...]
    names: dict[int, str] = field(default_factory=dict)
    scans: dict[str, int] = field(default_factory=dict)
    grids: dict[str, str] = field(default_factory=dict)
    quantiles: dict[str, list[float]] = field(default_factory=dict)
    hashes: dict[str, list[str]] = field(default_factory=dict)

    def online(self, grid: Grid) -> dict[int, str]:
        """Return the learners that are connected now, by node.

        Raises:
            FederationError: naming learners without scans, or the voxel grids if they differ.
        """
        nodes = list(grid.get_node_ids())
        self._ask(grid, [node for node in nodes if node not in self.names])
        found = {node: name for node in nodes if (name := self.names.get(node)) in self.expected}
        return {node: name for node, name in found.items() if node == self._latest(name, found)}

    def wait(self, grid: Grid, wanted: Sequence[str], seconds: float) -> dict[int, str]:
        """Return the connected learners once all ``wanted`` are, or after ``seconds``."""
        end = time.monotonic() + seconds
        while True:
            online = self.online(grid)
            if set(wanted) <= set(online.values()) or time.monotonic() >= end:
                return online
            time.sleep(min(INTERVAL_SECONDS, seconds))

    def largest(self, nodes: Iterable[int]) -> int:
        """Return the scans of the largest learner among ``nodes``."""
        return max(self.scans[self.names[node]] for node in nodes)

    def _latest(self, name: str, found: dict[int, str]) -> int:
        return [node for node in self.names if found.get(node) == name][-1]

    def _ask(self, grid: Grid, nodes: Sequence[int]) -> None:
        if not nodes:
            return
        questions = [
            Message(RecordDict(), dst_node_id=node, message_type=f"query.{ROSTER}") for node in nodes
        ]
        for reply in grid.send_and_receive(questions, timeout=ANSWER_SECONDS):
            if reply.has_error():
                continue  # asked again before the next round
            identity = reply.content.config_records[IDENTITY]
            name = str(identity["learner"])
            self.names[reply.metadata.src_node_id] = name
            self.scans[name] = int(str(identity["scans"]))
            self.grids[name] = str(identity["grid"])
            self.quantiles[name] = _numbers(identity.get("quantiles"))
            self.hashes[name] = _texts(identity.get("hashes"))
        self._check()

    def _check(self) -> None:
        empty = [name for name in self.expected if self.scans.get(name) == 0]
        if empty:
            raise FederationError(
                f"The federation needs scans at every learner, got none at {', '.join(empty)}. "
                "Give them scans or leave them out."
            )
        grids = {name: self.grids[name] for name in self.expected if name in self.grids}
        if len(set(grids.values())) > 1:
            listed = "; ".join(f"{name}: {grid}" for name, grid in grids.items())
            raise FederationError(
                f"The federation needs one voxel grid at every learner, got {listed}. "
                "Prepare the scans of all learners with the same settings."
            )
        shared = shared_images({name: self.hashes.get(name, []) for name in self.expected})
        if shared:
            listed = ", ".join(f"{count} at {a} and {b}" for (a, b), count in shared.items())
            raise FederationError(
                f"The federation needs every person at one learner, got the same image twice: {listed}. "
                "Let these learners find out whose they are, and keep them at one."
            )
        known = {name: self.quantiles[name] for name in self.expected if self.quantiles.get(name)}
        far = prepared_otherwise(known)
        if far:
            listed = ", ".join(f"{name} ({distance:.2f} SD away)" for name, distance in far.items())
            raise FederationError(
                f"The federation needs scans prepared alike, got other intensities at {listed}. "
                "Compare brain extraction, normalisation and registration of these learners."
            )


def _numbers(value: object) -> list[float]:
    return [float(one) for one in value] if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
