"""A federation on one machine: ``run_federation`` over the engine of one's choice."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from torch import nn

from privoxel.cohort.base import Cohort
from privoxel.errors import FederationError
from privoxel.progress import Progress, Silent
from privoxel.seeding import Streams
from privoxel.training.federated.active import Ascent
from privoxel.training.federated.client import client_app
from privoxel.training.federated.grid import InProcessGrid, server_identity
from privoxel.training.federated.job import FederationJob, Learner, check_learners
from privoxel.training.federated.ledger import Federation
from privoxel.training.federated.server import Server
from privoxel.training.federated.sites import Sites, partitions
from privoxel.training.runtime import Runtime

ENGINES = ("in-process", "ray")
Engine = Literal["in-process", "ray"]


def run_federation(  # noqa: PLR0913 - who, on what, how, where
    build: Callable[[], nn.Module],
    cohort: Cohort,
    learners: Sequence[Learner],
    job: FederationJob,
    *,
    folder: Path,
    streams: Streams,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    engine: Engine = "in-process",
    ascent: Ascent | None = None,
) -> Federation:
    """Train a federation and return its community models, local updates and participation by round.

    A folder of a killed run goes on after its last finished round and gives the same weights; one that is
    finished is only read.

    Args:
        build: returns the network with its initial weights; picklable for ``ray``.
        cohort: the scans of all learners.
        learners: who trains on which rows; their order is that of the mean.
        job: how they train.
        folder: where snapshots, updates and the record go (``ledger``).
        streams: randomness of the learners and of the server's noise.
        runtime: where learners compute; the CPU by default.
        progress: one task of as many steps as rounds.
        ascent: what an active learner does to its updates; None: everyone follows the protocol.
        engine: ``in-process``, one learner after another, or ``ray``, Flower's simulation on all cores.

    Raises:
        FederationError: if it cannot start (all faults at once), or a round has too few usable updates.
    """
    if engine not in ENGINES:
        raise FederationError(f"engine needs one of {', '.join(ENGINES)}, got {engine!r}. Choose one.")
    check_learners(learners, cohort, job)
    sites = Sites(cohort, tuple(learners), build, streams, runtime or Runtime(), ascent)
    names = tuple(learner.name for learner in learners)
    facts = {"data": _digest(cohort, learners), "streams": f"{streams.root}/{streams.prefix}"}
    if ascent is not None:
        facts["ascent"] = f"{ascent.learner}, {len(ascent.targets)} scans, rate {ascent.rate}"
    server = Server(job, names, build, folder, streams.child("server"), progress or Silent(), facts)
    if server.is_done():
        return server.ledger.federation()
    if engine == "ray":
        from privoxel.training.federated.simulation import run_simulated  # noqa: PLC0415 - ray is an extra

        return run_simulated(server, sites)
    app = client_app(sites.of, job.privacy)
    with server_identity():
        return server.conduct(InProcessGrid(app, partitions(learners)))


def _digest(cohort: Cohort, learners: Sequence[Learner]) -> str:
    """Return what changes whenever a learner's scans do."""
    digest = hashlib.sha256(cohort.fingerprint.encode())
    for learner in learners:
        digest.update(f"\0{learner.name}\0".encode())
        digest.update(np.ascontiguousarray(learner.rows, dtype=np.int64).tobytes())
    return digest.hexdigest()[:16]
