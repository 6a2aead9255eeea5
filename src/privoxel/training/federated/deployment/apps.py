"""The two apps that Flower's programs load: a learner on its own machine, and the server.

Each message starts a fresh process, so a site reads its (cached) scans anew every time.
"""

import functools
import json
from pathlib import Path

import numpy as np
from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid as FlowerGrid
from flwr.serverapp import ServerApp

from privoxel.cohort.base import Cohort, Grid
from privoxel.cohort.cache import cache_volumes
from privoxel.config import TrainingConfig
from privoxel.errors import FederationError, PrivoxelError
from privoxel.models import build_model, spec_of
from privoxel.progress import Silent
from privoxel.seeding import Streams
from privoxel.store import write_text
from privoxel.training.federated.client import client_app
from privoxel.training.federated.deployment.settings import (
    RUN_FOLDER,
    SERVER_FILE,
    SITE_FILE,
    SiteConfig,
    load_server,
    load_site,
    told,
)
from privoxel.training.federated.job import Learner
from privoxel.training.federated.server import Server
from privoxel.training.federated.sites import Site, Sites
from privoxel.training.runtime import choose_runtime

OUTCOME = "outcome.json"
STREAM = "deployment"


def learner_app() -> ClientApp:
    """Return the app of the site whose file the environment names; its errors leave only as their kind."""
    config = load_site(told(SITE_FILE))
    site = functools.cache(lambda: site_of(config))
    return client_app(lambda _: site(), config.privacy, tells_reasons=False)


def site_of(config: SiteConfig) -> Site:
    """Return a site with its scans cached and memory-mapped."""
    cohort = cohort_of(config)
    runtime = choose_runtime(TrainingConfig(device=config.device, threads=config.threads))
    learner = Learner(config.name, np.arange(len(cohort)))
    build = functools.partial(build_model, spec_of(config.model), cohort.grid.shape, config.mean_age, 0)
    secret = None if config.shared_secret is None else config.shared_secret.read_bytes()
    sites = Sites(cohort, (learner,), build, Streams(config.seed).child(STREAM), runtime, secret=secret)
    return Site(learner.name, cohort, learner.rows, sites)


def cohort_of(config: SiteConfig) -> Cohort:
    """Return the scans of a site.

    Raises:
        FederationError: if it has none.
    """
    settings = config.cohort
    if settings.kind == "simulated":
        from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort  # noqa: PLC0415

        seed = config.seed if settings.seed is None else settings.seed
        simulator = SimulatorConfig(seed=seed, resolution_mm=settings.resolution_mm)
        return cache_volumes(simulate_cohort(simulator, settings.participants), skip_bad=False)
    if config.path is None:
        raise FederationError(
            f"Site {config.name} needs `path`, a BIDS folder or table, got none. Add it to the site's file."
        )
    from privoxel.cohort.bids import load_cohort  # noqa: PLC0415 - imports nibabel

    cohort = load_cohort(
        config.path,
        grid=Grid.mni(settings.resolution_mm),
        normalise=settings.normalise,
        where=settings.where,
        root=config.root,
    )
    return cache_volumes(cohort, skip_bad=False)


def server_app() -> ServerApp:
    """Return the app of the server whose file the environment names; how it ended is left in its folder."""
    app = ServerApp()

    @app.main()
    def conduct(grid: FlowerGrid, context: Context) -> None:  # noqa: ARG001 - Flower's signature
        folder = told(RUN_FOLDER)
        try:
            server_of(told(SERVER_FILE), folder).conduct(grid)
        except PrivoxelError as error:
            leave_outcome(folder, str(error))
            raise
        leave_outcome(folder, "")

    return app


def server_of(config_file: Path, folder: Path) -> Server:
    """Return the server that ``config_file`` describes, with its record in ``folder``."""
    config = load_server(config_file)
    build = functools.partial(
        build_model, spec_of(config.model), config.grid.shape, config.mean_age, config.seed
    )
    facts = {"deployment": config.model_dump(mode="json", exclude={"federation"})}
    streams = Streams(config.seed).child(STREAM)
    return Server(config.federation, config.learners, build, folder / "federation", streams, Silent(), facts)


def leave_outcome(folder: Path, error: str) -> None:
    """Write how the rounds ended: an empty error where all are done."""
    write_text(folder / OUTCOME, json.dumps({"error": error}))
