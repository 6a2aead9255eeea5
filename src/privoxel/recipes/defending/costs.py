"""What a frontier will take before it is begun: the time of every setting, and which fit into a budget."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from privoxel.cohort.base import Cohort
from privoxel.cohort.splits import Design
from privoxel.progress import duration
from privoxel.recipes.defending.settings import Grid, Point
from privoxel.recipes.pace import Pace
from privoxel.recipes.plan import measure_paces, needs_of, plan_targets
from privoxel.training.runtime import Runtime


class Costs(NamedTuple):
    """Seconds of training on one core by setting, and bytes of disk of all."""

    seconds: Mapping[str, float]
    disk: float

    def waiting(self, names: Sequence[str], workers: int) -> float:
        """Return the seconds until ``names`` are trained by ``workers``, the longest first."""
        cores = [0.0] * max(workers, 1)
        for seconds in sorted((self.seconds[name] for name in names), reverse=True):
            cores[cores.index(min(cores))] += seconds
        return max(cores)

    def said(self, names: Sequence[str], workers: int) -> str:
        """Return the time of ``names`` in words."""
        total = sum(self.seconds[name] for name in names)
        return (
            f"{len(names)} settings to train: about {duration(self.waiting(names, workers))} with {workers} "
            f"at a time ({total / 3600:.2f} core-hours), and the attacks beside it; "
            f"{max(self.disk / 1e6, 1):.0f} MB of disk"
        )


def estimate_costs(
    points: Sequence[Point], designs: Sequence[Design], cohort: Cohort, runtime: Runtime
) -> Costs:
    """Return what ``points`` take, at paces that are measured once for each network and batch size."""
    paces: dict[tuple[str, int], Mapping[str, Pace]] = {}
    seconds, disk = {}, 0.0
    for point in points:
        config = point.config
        key = (config.models[0].model_dump_json(exclude={"epochs", "dropout"}), config.training.batch_size)
        if key not in paces:
            paces[key] = measure_paces(config, cohort, runtime)
        needs = needs_of(plan_targets(config, designs), config, cohort, paces[key], runtime)
        seconds[point.name] = needs.training.seconds
        disk += needs.disk
    return Costs(seconds, disk)


def within(budget: float, grid: Grid, costs: Costs, *, done: Sequence[str], workers: int) -> tuple[str, ...]:
    """Return the settings to train within ``budget`` seconds: those of the file in order, finished ones free.

    The setting that the others are compared with comes first, whatever it takes.
    """
    order = sorted((point.name for point in grid.points), key=lambda name: name != grid.reference)
    chosen: list[str] = []
    for name in order:
        waiting = (
            0.0 if name in done else costs.waiting([n for n in (*chosen, name) if n not in done], workers)
        )
        if waiting <= budget or name == grid.reference:
            chosen.append(name)
    return tuple(chosen)
