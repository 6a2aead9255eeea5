"""The same federation over Flower's Ray simulation: learners train in parallel processes.

What is known of Flower 1.41 and Ray 2.55: ``run_simulation`` is announced as deprecated but is the only way
that leaves no daemon behind; each message carries a pickle of the app, so the app here holds only the path
of a file with the sites, which every process reads once; Ray's sockets need a short path, so that file and
Ray's session lie in a temporary folder that is removed at the end.
"""

import functools
import importlib.util
import pickle
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from flwr.supercore import telemetry

from privoxel.errors import FederationError
from privoxel.executor import usable_cores
from privoxel.training.federated.client import client_app
from privoxel.training.federated.ledger import Federation
from privoxel.training.federated.quiet import quiet_flower
from privoxel.training.federated.server import Server
from privoxel.training.federated.sites import Site, Sites

OBJECT_STORE_BYTES = 512 * 2**20


def run_simulated(server: Server, sites: Sites) -> Federation:
    """Run ``server`` over as many Ray processes as cores allow, and return what its folder then holds.

    Raises:
        FederationError: as the in-process engine does, and if Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise FederationError(
            "engine 'ray' needs Flower's simulation, got no ray. "
            "Install privoxel[fl-sim], or use engine = 'in-process'."
        )
    telemetry.state["source"] = "unavailable"  # or Flower writes an identifier to the home folder
    with tempfile.TemporaryDirectory(prefix="pvx-") as temporary, quiet_flower():
        stored = Path(temporary) / "sites.pkl"
        stored.write_bytes(_pickled(sites))
        app = client_app(functools.partial(_site_of, str(stored)), server.job.privacy)
        backend = _backend(sites, temporary)
        return _simulate(server, app, backend, len(sites.learners))


def _simulate(server: Server, app: ClientApp, backend: dict[str, Any], nodes: int) -> Federation:
    stopped = threading.Event()
    results: list[Federation] = []
    main = ServerApp()

    @main.main()
    def conduct(grid: Grid, context: Context) -> None:  # noqa: ARG001 - Flower's signature
        results.append(server.conduct(_stoppable(grid, stopped)))

    try:
        run_simulation(main, app, nodes, backend_config=backend)
    finally:
        stopped.set()
    return results[0]


def _stoppable(grid: Grid, stopped: threading.Event) -> Grid:
    """Return ``grid``, which ends its waiting once ``stopped``: an interrupt reaches the main thread only."""
    pull = grid.pull_messages

    def pull_messages(message_ids: Iterable[str]) -> Iterable[Message]:
        if stopped.is_set():
            raise FederationError("The federation was interrupted. Resume it; the finished rounds are kept.")
        return pull(message_ids)

    setattr(grid, "pull_messages", pull_messages)  # noqa: B010 - a method of one object
    return grid


def _backend(sites: Sites, folder: str) -> dict[str, Any]:
    runtime = sites.runtime
    return {
        "client_resources": {"num_cpus": runtime.threads, "num_gpus": float(runtime.device != "cpu")},
        "init_args": {
            "num_cpus": max(usable_cores(), runtime.threads),
            "include_dashboard": False,
            "log_to_driver": False,
            "logging_level": "ERROR",
            "object_store_memory": OBJECT_STORE_BYTES,
            "_temp_dir": folder,
        },
    }


def _pickled(sites: Sites) -> bytes:
    try:
        return pickle.dumps(sites)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise FederationError(
            f"engine 'ray' needs a cohort and a model builder that pickle, got: {error}. "
            "Use functools.partial of build_model, or engine = 'in-process'."
        ) from error


def _site_of(stored: str, context: Context) -> Site:
    return _load(stored).of(context)


@functools.lru_cache(maxsize=1)
def _load(stored: str) -> Sites:
    """Read the sites, once for each process, and set up the process as the runtime asks."""
    sites: Sites = pickle.loads(Path(stored).read_bytes())  # noqa: S301 - written by this run
    torch.set_num_threads(sites.runtime.threads)
    torch.backends.cudnn.allow_tf32 = False
    return sites
