"""Flower's SuperLink inside the server's own process: registered learners, one run, and nobody else.

Flower 1.41 serves learners (Fleet), control and runtime on one port, and its control interface asks nobody
who they are. Here only the Fleet API is served (``gate``); learners are registered and the run is made by
calling Flower's state directly, so that there is no control or runtime interface that could be reached, no
uploaded code, and no further process that could be left running.
"""

import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import uvicorn
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.proto.task_pb2 import Task
from flwr.server.superlink.linkstate import InMemoryLinkState, LinkStateFactory
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID, TaskType
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.superlink.federation import NoOpFederationManager

from privoxel.errors import FederationError
from privoxel.training.federated.deployment.gate import HEARTBEAT_SECONDS, Gate, fleet_app
from privoxel.training.federated.deployment.keys import SERVER, public_key

logger = logging.getLogger(__name__)

READY_SECONDS = 30.0
FAREWELL_SECONDS = 10.0
STOP_SECONDS = 5


class Address(NamedTuple):
    """Where the server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@final
@dataclass(frozen=True)
class Link:
    """A SuperLink's state: its one run, and which learner each node and each public key (PEM) belongs to."""

    factory: LinkStateFactory
    state: InMemoryLinkState
    run: Run
    task: Task
    nodes: Mapping[int, str]
    keys: Mapping[bytes, str]


def new_link(keys: Mapping[str, bytes]) -> Link:
    """Return a SuperLink's state that knows the learners with these public keys (PEM) and runs one run.

    Raises:
        FederationError: if two learners have the same key.
    """
    if len(set(keys.values())) < len(keys):
        twice = [name for name, key in keys.items() if list(keys.values()).count(key) > 1]
        raise FederationError(
            f"Every learner needs a key of its own, got one key for {', '.join(twice)}. Make new keys."
        )
    factory = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory())
    state = factory.state()
    assert isinstance(state, InMemoryLinkState)  # noqa: S101 - for the type checker
    nodes = {
        state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, HEARTBEAT_SECONDS, name=name): name
        for name, key in keys.items()
    }
    number = state.create_run(
        "privoxel/federation", "1", None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
    )
    task = state.get_run_info(run_ids=[number])[0].primary_task_id
    assert task is not None  # noqa: S101 - for the type checker
    state.claim_task(task)
    state.activate_task(task)
    with state.lock_task_store:  # the rounds run in this process: no token to act for them, none to expire
        record = state.task_token_store.pop(task)
        state.task_token_to_task_id.pop(record.token)
    run = state.get_run_info(run_ids=[number])[0]
    names = {key: name for name, key in keys.items()}
    return Link(factory, state, run, Task(task_id=task, run_id=number), nodes, names)


@contextmanager
def serving(address: Address, keys: Path, learners: tuple[str, ...]) -> Iterator[Link]:
    """Serve a new SuperLink over TLS while the block runs, to the holders of the learners' keys only.

    All keys are registered before the port opens. At the end the learners that are connected are told so.

    Raises:
        FederationError: if the address cannot be had, or the server does not start.
    """
    link = new_link({name: public_key(keys / f"{name}.pub") for name in learners})
    gate = Gate(fleet_app(link.factory), link.keys)
    with _listening(address) as listener:
        server = uvicorn.Server(_config(gate, keys))
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="superlink", daemon=True
        )
        thread.start()
        try:
            _wait_until_started(server, thread)
            yield link
            _bid_farewell(gate, link)
        finally:
            server.should_exit = True
            thread.join(2 * STOP_SECONDS)


def _config(gate: Gate, keys: Path) -> uvicorn.Config:
    return uvicorn.Config(
        gate,
        ssl_certfile=str(keys / f"{SERVER}.pem"),
        ssl_keyfile=str(keys / f"{SERVER}.key"),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


def _listening(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server(address, family=family)
    except OSError as error:
        raise FederationError(
            f"A deployed server needs a free port of this machine, got {address}: {error.strerror}. "
            "Choose another --host or --port."
        ) from error


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    end = time.monotonic() + READY_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > end:
            raise FederationError("The server did not start. See logs/server.log in its folder.")
        time.sleep(0.05)


def _bid_farewell(gate: Gate, link: Link) -> None:
    """Tell the connected learners that the federation is over: each hears it when it next asks."""
    gate.is_over = True
    end = time.monotonic() + FAREWELL_SECONDS
    while time.monotonic() < end:
        online = {link.nodes[node] for node in link.state.get_nodes(link.run.run_id)}
        if online <= gate.told:
            return
        time.sleep(0.1)
