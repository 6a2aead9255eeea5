"""From a configuration to a cohort whose volumes are cached and memory-mapped."""

import re
from functools import partial
from pathlib import Path

import numpy as np

from privoxel.cohort.base import Cohort, Grid
from privoxel.cohort.cache import cache_volumes
from privoxel.cohort.checks import check_cohort
from privoxel.config import RunConfig
from privoxel.errors import ConfigError, Problem, ProblemsError
from privoxel.evaluation.results import CohortSummary
from privoxel.progress import Progress
from privoxel.seeding import Streams
from privoxel.store import RunFolder


def describe_cohort(
    config: RunConfig, path: Path | None, *, skip_bad: bool, root: Path | None = None
) -> Cohort:
    """Return the cohort that ``config`` asks for, volumes not yet read.

    Raises:
        ConfigError: if a real cohort is asked for without a path, or a simulated one with it.
        ProblemsError: listing every fault of a real cohort, unless ``skip_bad``.
    """
    settings = config.cohort
    if settings.kind == "simulated":
        if path is not None:
            raise ConfigError(
                "A simulated cohort needs no --cohort, got one. Set [cohort] kind = 'real' or drop --cohort."
            )
        if settings.where or settings.normalise != "all":
            raise ConfigError("A simulated cohort needs no [cohort] where or normalise, got one. Drop it.")
        from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort  # noqa: PLC0415 - imports torch

        seed = config.seed if settings.seed is None else settings.seed
        simulator = SimulatorConfig(
            seed=seed, resolution_mm=settings.resolution_mm, sessions=settings.sessions
        )
        return simulate_cohort(simulator, settings.participants)
    if path is None:
        raise ConfigError("A real cohort needs --cohort DIR (a BIDS folder or a table), got none. Add it.")
    return _real_cohort(config, path, skip_bad=skip_bad, root=root)


def _real_cohort(config: RunConfig, path: Path, *, skip_bad: bool, root: Path | None) -> Cohort:
    """Return the cohort at ``path``; if a table or header is at fault, read the voxels too and tell all."""
    from privoxel.cohort.bids import load_cohort  # noqa: PLC0415 - imports nibabel

    settings = config.cohort
    load = partial(
        load_cohort,
        path,
        grid=Grid.mni(settings.resolution_mm),
        normalise=settings.normalise,
        where=settings.where,
        root=root,
    )
    try:
        return load(skip_bad=skip_bad)
    except ProblemsError as error:
        if skip_bad:
            raise
        everything = check_cohort(load(skip_bad=True)).problems
        title = f"Cohort {path.name} has scans that cannot be used"
        raise ProblemsError(title, everything, "Continue with the rest by --skip-bad.") from error


def read_cohort(cohort: Cohort, *, skip_bad: bool, progress: Progress) -> Cohort:
    """Return ``cohort`` with its volumes cached on disk and memory-mapped."""
    with progress.task("volumes", len(cohort)) as task:
        return cache_volumes(cohort, skip_bad=skip_bad, progress=task.advance)


def public_brains(config: RunConfig, progress: Progress) -> Cohort:
    """Return the simulated brains that may be used beside the cohort, cached; nobody is in both."""
    from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort  # noqa: PLC0415 - imports torch

    simulator = SimulatorConfig(
        seed=Streams(config.seed).seed("public brains"), resolution_mm=config.cohort.resolution_mm
    )
    brains = simulate_cohort(simulator, config.defences.public_brains)
    return read_cohort(brains, skip_bad=False, progress=progress)


def summarise_cohort(cohort: Cohort, folder: RunFolder) -> CohortSummary:
    """Return what a report may say of a cohort: no ids, skipped participants by keyed hash."""
    ages = cohort.covariates.age
    sites, counts = np.unique(cohort.covariates.site, return_counts=True)
    skipped = [_without_ids(problem, folder) for problem in cohort.problems]
    youngest, oldest = (float(ages.min()), float(ages.max()))
    if not cohort.is_simulated:  # an exact extreme age is a person's
        youngest, oldest = float(np.floor(youngest)), float(np.ceil(oldest))
    return CohortSummary(
        name=cohort.name,
        is_simulated=cohort.is_simulated,
        participants=len(cohort.covariates.participants),
        scans=len(cohort),
        grid_shape=list(cohort.grid.shape),
        voxel_mm=cohort.grid.voxel_mm,
        age_mean=float(ages.mean()),
        age_sd=float(ages.std()),
        age_min=youngest,
        age_max=oldest,
        sites={str(site) or "unknown": int(n) for site, n in zip(sites, counts, strict=True)},
        history=list(cohort.history),
        skipped=skipped,
    )


NAMES = re.compile(r"sub-[A-Za-z0-9]+|\S*/\S+|\S+\.(?:nii|tsv|csv|json)(?:\.gz)?\b")


def _without_ids(problem: Problem, folder: RunFolder) -> str:
    """Return what is wrong with a scan for a report: its participant as a keyed hash, no file names."""
    who = folder.hashed(problem.participant) if problem.participant else "a scan"
    what = f"{problem.what}. {problem.remedy}"
    if problem.participant:
        name = re.escape(problem.participant)
        what = re.sub(rf"(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])", "(id)", what)
    return f"{who}: {NAMES.sub('(name)', what)}"
