"""What a reproduction will take, before it takes it: memory, disk and time, from a few measured steps.

Training is measured (two steps of each network at the run's size), signals and attacks are not and come on
top: at demo scale they took about as long again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from privoxel.cohort.base import Cohort
from privoxel.config import RunConfig, check_settings
from privoxel.progress import duration
from privoxel.recipes.audit import draw_designs
from privoxel.recipes.cohorts import describe_cohort
from privoxel.recipes.federation.preparing import describe_cohorts, partition_of, victims_of
from privoxel.recipes.pace import Pace, peak_memory
from privoxel.recipes.plan import measure_paces, needs_of, plan_targets
from privoxel.recipes.reproduction.cells import Plan, ReproduceOptions, is_finished
from privoxel.recipes.reproduction.central import Central, ShadowOf
from privoxel.recipes.reproduction.tables import Cell
from privoxel.training.runtime import Runtime, choose_runtime

HALF_PRECISION = 2


@final
@dataclass(frozen=True)
class Estimate:
    """Seconds of training on one worker, and bytes on disk, of one cell."""

    seconds: float
    disk: float


def estimate_reproduction(plan: Plan, options: ReproduceOptions) -> Iterator[str]:
    """Yield what every unfinished cell of ``plan`` takes, and all of them together."""
    waiting = [cell for cell in plan.cells if not is_finished(plan.output / cell.name)]
    runtime = choose_runtime(plan.central.run.training)
    on_gpu = runtime.device.startswith("cuda")
    at_once = 1 if on_gpu else min(options.workers, max(len(waiting), 1))
    total = disk = volumes = 0.0
    paces: dict[str, Pace] = {}
    for cell in waiting:
        if isinstance(cell, Cell):
            found, size = _federation(cell, plan, options, runtime, paces)
        else:
            found, size = _central(cell, plan, options, runtime, paces)
        total, disk, volumes = total + found.seconds, disk + found.disk, max(volumes, size)
        yield f"{cell.name}: about {duration(found.seconds)} of training, {found.disk / 1e9:.2f} GB of disk"
    place = "one after another on the GPU" if on_gpu else f"{at_once} at a time"
    left = f"{len(waiting)} of {len(plan.cells)} models are left, {place}"
    yield f"{left}: about {duration(total / at_once)} of training."
    yield f"Disk: {disk / 1e9:.1f} GB in {plan.output}, and {volumes / 1e9:.1f} GB for the cache of volumes."
    memory, signals = peak_memory(runtime) / 1e9, plan.central.run.signals.memory
    yield f"Memory: about {memory:.1f} GB for a step, times {at_once}; signals take up to {signals} a model."
    yield "Times are at the pace of two steps measured here; signals and attacks come on top."


def _central(
    cell: Central | ShadowOf, plan: Plan, options: ReproduceOptions, runtime: Runtime, paces: dict[str, Pace]
) -> tuple[Estimate, float]:
    config = plan.config_of(cell)
    cohort = describe_cohort(config, options.cohort, skip_bad=options.skip_bad, root=options.root)
    if cell.model not in paces:
        paces |= measure_paces(plan.config_of(Central(cell.model)), cohort, runtime)
    if isinstance(cell, ShadowOf):
        members = len(draw_designs(config, cohort)[0].members) * plan.central.shadow.share
        seconds = paces[cell.model].seconds * members * config.training.epochs
        return Estimate(seconds, 2 * paces[cell.model].signal_bytes * members), _volumes(cohort)
    plans = plan_targets(config, draw_designs(config, cohort))
    needs = needs_of(plans, config, cohort, paces, runtime)
    return Estimate(needs.training.seconds, needs.disk), _volumes(cohort)


def _federation(
    cell: Cell, plan: Plan, options: ReproduceOptions, runtime: Runtime, paces: dict[str, Pace]
) -> tuple[Estimate, float]:
    config = plan.federations[cell]
    cohorts = () if options.cohort is None else (options.cohort,)
    cohort = describe_cohorts(config, cohorts, skip_bad=options.skip_bad, root=options.root)
    partition = partition_of(config, cohort.covariates)
    settings = {
        "cohort": {"resolution_mm": config.cohort.resolution_mm},
        "models": [config.model.model_dump(mode="json", exclude_none=True)],
        "training": {"batch_size": config.federation.batch_size},
        "attacks": {"names": ["combined", "gradient-magnitude"], "primary": "combined"},
    }
    key = f"federation/{cell.model}"
    if key not in paces:
        measured = measure_paces(check_settings(RunConfig, settings, where=cell.name), cohort, runtime)
        paces[key] = measured[cell.model]
    pace = paces[key]
    scans = sum(map(len, partition.groups)) * config.federation.rounds * config.federation.local_epochs
    federations = 1 + len(victims_of(config, partition))
    snapshots = config.federation.rounds * 4 * pace.weights
    signals = config.attack.rounds * pace.signal_bytes * len(cohort)
    return Estimate(pace.seconds * scans * federations, federations * (snapshots + signals)), _volumes(cohort)


def _volumes(cohort: Cohort) -> float:
    voxels = 1
    for length in cohort.grid.shape:
        voxels *= length
    return float(HALF_PRECISION * voxels * len(cohort))
