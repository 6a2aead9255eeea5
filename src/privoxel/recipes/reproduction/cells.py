"""Running what a page needs: every model a run folder of its own, independent ones beside each other.

A finished folder is read and a started one goes on, so that tables share models and a killed reproduction
continues. On a CPU models are trained side by side, each on the threads that its configuration names; on a
GPU one after another, with all cores for the attacks.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, final

from privoxel.config import RunConfig
from privoxel.errors import StoreError
from privoxel.evaluation.archive import Archive, TargetScores
from privoxel.evaluation.federation_results import FederationResults
from privoxel.evaluation.reproduction_results import ShadowResults
from privoxel.evaluation.results import Results
from privoxel.executor import Executor, Job
from privoxel.progress import Progress, Silent
from privoxel.recipes.audit import RunOptions, run_audit
from privoxel.recipes.federation.run import FederateOptions, read_federation, run_federated
from privoxel.recipes.federation.settings import FederateConfig
from privoxel.recipes.reproduction.central import Central, CentralScale, ShadowOf
from privoxel.recipes.reproduction.shadow import read_shadow, run_shadow
from privoxel.recipes.reproduction.tables import Cell
from privoxel.recipes.rewrite import read_results
from privoxel.store import RunFolder, differences
from privoxel.training.runtime import choose_runtime

AnyCell = Cell | Central | ShadowOf


@final
@dataclass(frozen=True)
class ReproduceOptions:
    """How a reproduction is carried out. ``cohort``: a real one in place of the simulated.

    ``workers``: models that are trained at a time, or processes that attack where only one is.
    """

    cohort: Path | None = None
    root: Path | None = None
    skip_bad: bool = False
    workers: int = 1
    progress: Progress = field(default_factory=Silent)


@final
@dataclass(frozen=True)
class Plan:
    """What has to be run, where, and with which settings."""

    cells: tuple[AnyCell, ...]
    federations: Mapping[Cell, FederateConfig]
    central: CentralScale
    output: Path

    def config_of(self, cell: Central | ShadowOf) -> RunConfig:
        """Return the configuration of a central model."""
        return self.central.config_of(cell)


class CentralRun(NamedTuple):
    """A finished central run: its results, and per-scan scores of its target."""

    results: Results
    scores: TargetScores
    folder: Path


class Found(NamedTuple):
    """Everything that was run, by cell."""

    federations: Mapping[Cell, FederationResults]
    central: Mapping[Central, CentralRun]
    shadows: Mapping[str, ShadowResults]


def run_cells(plan: Plan, options: ReproduceOptions) -> Found:
    """Run every cell that is not finished, and return what all of them found.

    Raises:
        PrivoxelError: what a run raises; finished ones are kept.
    """
    waiting = [cell for cell in plan.cells if not is_finished(plan.output / cell.name)]
    first = sorted((cell for cell in waiting if not isinstance(cell, ShadowOf)), key=_last)
    after = [cell for cell in waiting if isinstance(cell, ShadowOf)]
    for wave in (first, after):
        _run_wave(wave, plan, options)
    return read_cells(plan)


def is_finished(folder: Path) -> bool:
    """Return whether ``folder`` holds a finished run."""
    run = RunFolder(folder)
    return (folder / "manifest.json").exists() and run.is_complete


def _last(cell: AnyCell) -> int:
    """Return a key that puts the longest runs first, so that no core waits long at the end."""
    if isinstance(cell, Cell):
        return 0
    return 2 if isinstance(cell, Central) and cell.noise is not None else 1


def _run_wave(cells: Sequence[AnyCell], plan: Plan, options: ReproduceOptions) -> None:
    if not cells:
        return
    on_gpu = choose_runtime(plan.central.run.training).device.startswith("cuda")
    at_once = 1 if on_gpu else min(options.workers, len(cells))
    inner = options if at_once == 1 else replace(options, workers=1, progress=Silent())
    jobs = [Job(cell.name, run_cell, (cell, plan, inner)) for cell in cells]
    if at_once > 1:
        options.progress.say(f"{len(jobs)} models, {at_once} at a time: {', '.join(j.name for j in jobs)}")
        Executor("joblib", at_once).run(jobs, progress=options.progress, title="models")
        return
    for number, cell in enumerate(cells, 1):
        options.progress.say(f"{cell.name} ({number} of {len(cells)})")
        run_cell(cell, plan, inner)


def run_cell(cell: AnyCell, plan: Plan, options: ReproduceOptions) -> None:
    """Run one cell in its folder, or go on with it."""
    folder = plan.output / cell.name
    if isinstance(cell, Cell):
        federated = FederateOptions(
            cohorts=() if options.cohort is None else (options.cohort,),
            root=options.root,
            resume=True,
            skip_bad=options.skip_bad,
            workers=options.workers,
            progress=options.progress,
        )
        run_federated(plan.federations[cell], folder, federated)
        return
    audit = RunOptions(
        cohort=options.cohort,
        root=options.root,
        resume=True,
        skip_bad=options.skip_bad,
        workers=options.workers,
        progress=options.progress,
    )
    if isinstance(cell, ShadowOf):
        wanted, central = plan.central.shadow, plan.output / Central(cell.model).name
        run_shadow(plan.config_of(cell), wanted, central, folder, audit)
    else:
        run_audit(plan.config_of(cell), folder, audit)


def read_cells(plan: Plan) -> Found:
    """Return what the finished folders of a plan hold; the settings of each are compared with the plan's.

    Raises:
        StoreError: if a folder was made with other settings.
    """
    federations, central, shadows = {}, {}, {}
    for cell in plan.cells:
        folder = plan.output / cell.name
        if not is_finished(folder):
            continue
        wanted = plan.federations[cell] if isinstance(cell, Cell) else plan.config_of(cell)
        _check_same(folder, wanted)
        if isinstance(cell, Cell):
            federations[cell] = read_federation(folder)
        elif isinstance(cell, ShadowOf):
            shadows[cell.model] = read_shadow(folder)
        else:
            results = read_results(folder)
            scores = Archive.load(folder / "scores.npz").targets[results.targets[0].name]
            central[cell] = CentralRun(results, scores, folder)
    return Found(federations, central, shadows)


def _check_same(folder: Path, wanted: RunConfig | FederateConfig) -> None:
    stored = RunFolder(folder).manifest["settings"]["config"]
    changes = list(differences(stored, json.loads(json.dumps(wanted.to_dict()))))
    if changes:
        listed = "\n".join(f"  - {change}" for change in changes)
        raise StoreError(
            f"{folder} holds a run with other settings:\n{listed}\n"
            "Remove the folder, or choose another --output."
        )
