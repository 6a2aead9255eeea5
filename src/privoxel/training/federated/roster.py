"""Who is connected: the learners behind the nodes of a grid, as they say themselves."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from privoxel.errors import FederationError
from privoxel.training.federated.client import IDENTITY, ROSTER
from privoxel.training.federated.fingerprints import prepared_otherwise, shared_images

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.5
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Seconds before a node that could not say who it is is asked again; doubled each time."""
LONGEST_REASON = 200
ANSWER_SECONDS = 600.0


@final
@dataclass(frozen=True)
class Silence:
    """A node that could not say who it is: how often, and when it is asked again (monotonic seconds)."""

    times: int
    until: float


@final
@dataclass
class Roster:
    """Names of nodes, asked once for each node; ``expected`` are the learners of the federation, in order.

    Nodes of other names are ignored. A learner that returns as a new node takes its name along. Where nodes
    are ``registered`` by a key, a node that calls itself by another's name is not one of the learners.
    """

    expected: tuple[str, ...]
    registered: Mapping[int, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    scans: dict[str, int] = field(default_factory=dict)
    grids: dict[str, str] = field(default_factory=dict)
    quantiles: dict[str, list[float]] = field(default_factory=dict)
    hashes: dict[str, list[str]] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    silent: dict[int, Silence] = field(default_factory=dict)

    def online(self, grid: Grid) -> dict[int, str]:
        """Return the learners that are connected now, by node.

        Raises:
            FederationError: naming learners without scans, with other voxel grids, secrets or intensities, or
            with an image that another holds too.
        """
        nodes = list(grid.get_node_ids())
        for known in (self.names, self.silent):
            for node in set(known) - set(nodes):  # what comes back is asked at once
                del known[node]
        now = time.monotonic()
        waiting = {node for node, silence in self.silent.items() if now < silence.until}
        self._ask(grid, [node for node in nodes if node not in self.names and node not in waiting])
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
            node = reply.metadata.src_node_id
            if node not in nodes:
                continue  # the server's own answer for a node that is gone
            if reply.has_error():
                self._leave_out(node, reply.error.reason or f"error {reply.error.code}")
                continue
            try:
                self._note(node, reply.content.config_records[IDENTITY])
            except (KeyError, TypeError, ValueError) as error:
                self._leave_out(node, f"what it says of itself cannot be read ({error!r})")
        self._check()

    def _note(self, node: int, identity: Mapping[str, Any]) -> None:
        """Keep what a node says of itself, if it goes by the name of its key."""
        name = str(identity["learner"])
        if self.registered.get(node, name) != name:
            self._leave_out(node, f"it calls itself {name}, which is not the name of its key")
            return
        said = (int(str(identity["scans"])), str(identity["grid"]), _numbers(identity.get("quantiles")))
        self.scans[name], self.grids[name], self.quantiles[name] = said
        self.hashes[name] = _texts(identity.get("hashes"))
        self.secrets[name] = str(identity.get("secret", ""))
        self.names[node] = name
        self.silent.pop(node, None)

    def _leave_out(self, node: int, reason: str) -> None:
        """Ask a node only after a while again, and say which and why."""
        times = self.silent[node].times + 1 if node in self.silent else 1
        pause = min(FIRST_PAUSE * 2 ** (times - 1), LONGEST_PAUSE)
        self.silent[node] = Silence(times, time.monotonic() + pause)
        who = f"the key of {self.registered[node]}" if node in self.registered else f"number {node}"
        short = " ".join(reason.split())[:LONGEST_REASON]
        logger.warning("The site with %s is left out: %s. It is asked again in %.0f s", who, short, pause)

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
        marks = {name: mark for name in self.expected if (mark := self.secrets.get(name))}
        if len(set(marks.values())) > 1:
            groups = [
                [name for name in marks if marks[name] == mark] for mark in dict.fromkeys(marks.values())
            ]
            raise FederationError(
                "The federation needs one shared_secret at every learner that has one, got "
                f"{len(groups)} different: {'; '.join(' and '.join(group) for group in groups)}. Without one "
                "secret a person at two sites is not found. Copy one file to all of them."
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
