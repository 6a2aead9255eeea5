"""The two apps of a deployment: a learner on its own machine, and the server.

They are all that a deployment runs: a site answers the server's messages with its own installed code only.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flwr.clientapp import ClientApp

from privoxel.cohort.base import Cohort, Grid
from privoxel.cohort.cache import cache_volumes
from privoxel.config import TrainingConfig
from privoxel.errors import FederationError
from privoxel.models import build_model, spec_of
from privoxel.progress import Progress
from privoxel.seeding import Streams
from privoxel.training.federated.client import client_app
from privoxel.training.federated.deployment.keys import read_secret
from privoxel.training.federated.deployment.settings import ServerConfig, SiteConfig
from privoxel.training.federated.job import Learner
from privoxel.training.federated.server import Server
from privoxel.training.federated.sites import Site, Sites
from privoxel.training.runtime import choose_runtime

STREAM = "deployment"


def learner_app(site: Site, config: SiteConfig) -> ClientApp:
    """Return the app of a site; its errors leave only as their kind."""
    return client_app(lambda _: site, config.privacy, tells_reasons=False)


def site_of(config: SiteConfig) -> Site:
    """Return a site with its scans cached and memory-mapped.

    Raises:
        FederationError: if it has no scans, or its shared secret cannot be used.
    """
    secret = None if config.shared_secret is None else read_secret(config.shared_secret)
    cohort = cohort_of(config)
    if not len(cohort):
        raise FederationError(f"Site {config.name} needs scans, got none. Give it scans or leave it out.")
    runtime = choose_runtime(TrainingConfig(device=config.device, threads=config.threads))
    learner = Learner(config.name, np.arange(len(cohort)))
    build = functools.partial(build_model, spec_of(config.model), cohort.grid.shape, config.mean_age, 0)
    sites = Sites(cohort, (learner,), build, Streams(config.seed).child(STREAM), runtime, secret=secret)
    return Site(learner.name, cohort, learner.rows, sites)


def cohort_of(config: SiteConfig) -> Cohort:
    """Return the scans of a site.

    Raises:
        FederationError: if it does not say where they are.
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


def server_of(
    config: ServerConfig, folder: Path, progress: Progress, registered: Mapping[int, str]
) -> Server:
    """Return the server that ``config`` describes, with its record in ``folder``.

    ``registered`` says which learner's key each node has shown.
    """
    build = functools.partial(
        build_model, spec_of(config.model), config.grid.shape, config.mean_age, config.seed
    )
    facts = {"deployment": config.model_dump(mode="json", exclude={"federation"})}
    streams = Streams(config.seed).child(STREAM)
    place = folder / "federation"
    return Server(config.federation, config.learners, build, place, streams, progress, facts, registered)
