"""``privoxel defend``: every setting trained and attacked, then set against each other on one page.

Each setting is an ordinary run folder below ``points/``. What is finished is never trained again: with other
settings in the file the same folder takes up those that are new.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

from privoxel.cohort.base import Cohort
from privoxel.errors import JobError
from privoxel.evaluation.frontier_results import FrontierResults, Unfinished
from privoxel.executor import Executor
from privoxel.progress import Progress, Silent, duration
from privoxel.recipes.audit import draw_designs
from privoxel.recipes.cohorts import describe_cohort, public_brains, read_cohort
from privoxel.recipes.defending.comparing import compare_settings, points_of
from privoxel.recipes.defending.concluding import findings_of, fronts_of, lines_of, part_lines_of, sharing_of
from privoxel.recipes.defending.confirming import write_confirmations
from privoxel.recipes.defending.costs import Costs, estimate_costs, within
from privoxel.recipes.defending.reading import read_point
from privoxel.recipes.defending.settings import Grid, Point
from privoxel.recipes.defending.training import POINTS, Scans, is_finished, train_points
from privoxel.recipes.environment import machine_facts, version_facts
from privoxel.recipes.feasible import check_feasible
from privoxel.recipes.plan import chosen_attacks
from privoxel.recipes.runs import Clock, announce, cohort_content, log_file, now, write_config
from privoxel.report.frontier import frontier_tsv, write_frontier
from privoxel.seeding import Streams
from privoxel.store import RunFolder, open_run, write_json, write_text
from privoxel.training.runtime import choose_runtime
from privoxel.version import __version__

logger = logging.getLogger(__name__)

BEYOND_BUDGET = "left out: the budget does not hold it"


@final
@dataclass(frozen=True)
class DefendOptions:
    """How a frontier is carried out; ``budget`` is the most seconds that training may take."""

    scans: Scans = field(default_factory=Scans)
    resume: bool = False
    budget: float | None = None
    executor: Executor = field(default_factory=Executor)
    progress: Progress = field(default_factory=Silent)


class Frontier(NamedTuple):
    """What a frontier leaves: its results, and where its page is."""

    results: FrontierResults
    page: Path


class _Plan(NamedTuple):
    """What is to be done: the settings to train, the others and why not, the time of all."""

    points: tuple[Point, ...]
    left_out: Mapping[str, str]
    costs: Costs
    said: str


def run_defence(grid: Grid, output: Path, options: DefendOptions) -> Frontier:
    """Train and attack every setting of ``grid`` in ``output``, compare them, and write the page.

    Raises:
        PrivoxelError: for bad settings, cohorts or folders, or if no setting could be finished.
    """
    cohort = _describe(grid, options.scans)
    _check_all(grid, cohort)
    folder = _open(grid, cohort, output, options)
    with log_file(folder):
        clock = Clock()
        plan = _plan(grid, cohort, output, options)
        announce(plan.said, options.progress, logger)
        _read_volumes(grid, cohort, options)
        clock.lap("volumes")
        failures = train_points(
            plan.points, output, options.scans, executor=options.executor, progress=options.progress
        )
        clock.lap("settings")
        reasons = {**plan.left_out, **failures}
        for name, reason in failures.items():
            announce(f"{name} failed: {reason}", options.progress, logger)
        results = conclude(grid, output, cohort, reasons, clock)
        page = write_outputs(results, output)
        write_confirmations(grid, results.fronts, output)
        folder.record(complete=not results.unfinished)
    return Frontier(results, page)


def plan_defence(grid: Grid, output: Path | None, options: DefendOptions) -> dict[str, Any]:
    """Return what ``run_defence`` would train and what it takes; nothing is written.

    Raises:
        PrivoxelError: for the bad settings and cohorts that ``run_defence`` refuses at its start.
    """
    cohort = _describe(grid, options.scans)
    _check_all(grid, cohort)
    plan = _plan(grid, cohort, output, options)
    return {
        "cohort": repr(cohort),
        "settings": {
            point.name: f"{point.family}, {duration(plan.costs.seconds[point.name])}" for point in plan.points
        },
        "left_out": dict(plan.left_out),
        "attacks": list(chosen_attacks(grid.base)),
        "needs": plan.said,
    }


def conclude(
    grid: Grid, output: Path, cohort: Cohort, reasons: Mapping[str, str], clock: Clock
) -> FrontierResults:
    """Return the results of the settings of ``grid`` that are finished in ``output``.

    ``reasons`` say why the others are not.

    Raises:
        JobError: if none is.
    """
    done = [point for point in grid.points if point.name not in reasons]
    if not done:
        said = "\n".join(f"  - {name}: {reason}" for name, reason in reasons.items())
        raise JobError(
            f"A frontier needs finished settings, got none of {len(grid.points)}:\n{said}\nMend these causes "
            "and go on with --resume."
        )
    finished = [read_point(point, output) for point in done]
    settings, streams = grid.frontier, Streams(grid.base.seed).child("frontier")
    compared = compare_settings(finished, settings, streams)
    points = points_of(compared)
    fronts, lines = fronts_of(compared, grid.reference), lines_of(compared)
    clock.lap("comparison")
    return FrontierResults(
        title=settings.title,
        created=now(),
        versions=version_facts(),
        machine=machine_facts(),
        seed=grid.base.seed,
        config=grid.base.to_dict(),
        cohort=cohort.name,
        is_simulated=cohort.is_simulated,
        metric=settings.metric,
        reference=grid.reference,
        tolerated_loss=settings.tolerated_loss,
        aim=settings.aim,
        draws=settings.draws,
        primary_attack=grid.base.attacks.primary,
        points=points,
        unfinished=[
            Unfinished(name=point.name, family=point.family, reason=reasons[point.name])
            for point in grid.points
            if point.name in reasons
        ],
        fronts=fronts,
        lines=lines,
        part_lines=part_lines_of(compared),
        sharing=sharing_of(compared),
        findings=findings_of(points, fronts, lines, settings.aim, len(reasons)),
        seconds=clock.laps,
    )


def write_outputs(results: FrontierResults, output: Path) -> Path:
    """Write ``results.json``, ``results.tsv`` and the page, and return the path of the page."""
    write_json(output / "results.json", results.model_dump(mode="json"))
    write_text(output / "results.tsv", frontier_tsv(results))
    page = output / "report.html"
    write_frontier(results, page)
    return page


def _describe(grid: Grid, scans: Scans) -> Cohort:
    return describe_cohort(grid.base, scans.cohort, skip_bad=scans.skip_bad, root=scans.root)


def _check_all(grid: Grid, cohort: Cohort) -> None:
    """Raise ``ConfigError`` for the first setting whose attacks cannot run."""
    for point in grid.points:
        attacks = chosen_attacks(point.config)
        check_feasible(point.config, draw_designs(point.config, cohort), attacks, cohort)


def _open(grid: Grid, cohort: Cohort, output: Path, options: DefendOptions) -> RunFolder:
    settings = {
        "config": grid.base.to_dict(),
        "cohort": cohort.name,
        "cohort_content": cohort_content(cohort),
        "privoxel": __version__,
    }
    facts = {"versions": version_facts(), "machine": machine_facts()}
    folder = open_run(output, settings, resume=options.resume, facts=facts)
    write_config(folder, grid.base.to_dict())
    write_json(
        output / "settings.json", [{"name": p.name, "family": p.family, **p.changes} for p in grid.points]
    )
    return folder


def _plan(grid: Grid, cohort: Cohort, output: Path | None, options: DefendOptions) -> _Plan:
    runtime = choose_runtime(grid.base.training)
    costs = estimate_costs(grid.points, draw_designs(grid.base, cohort), cohort, runtime)
    workers = options.executor.workers
    done = [p.name for p in grid.points if output is not None and is_finished(output / POINTS / p.folder)]
    names = [point.name for point in grid.points]
    chosen: Sequence[str] = names
    if options.budget is not None:
        chosen = within(options.budget, grid, costs, done=done, workers=workers)
    longest_first = sorted(grid.points, key=lambda point: -costs.seconds[point.name])
    said = costs.said([name for name in chosen if name not in done], workers)
    if done:
        said += f"; {len(done)} are finished"
    return _Plan(
        tuple(point for point in longest_first if point.name in chosen),
        {name: BEYOND_BUDGET for name in names if name not in chosen},
        costs,
        said,
    )


def _read_volumes(grid: Grid, cohort: Cohort, options: DefendOptions) -> None:
    """Put the volumes of all settings into the cache, so that workers only map them."""
    read_cohort(cohort, skip_bad=options.scans.skip_bad, progress=options.progress)
    wanted = {
        point.config.defences.public_brains: point.config
        for point in grid.points
        if point.config.defences.needs_public
    }
    for config in wanted.values():
        public_brains(config, options.progress)
