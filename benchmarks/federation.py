"""Flower beside a plain loop: a federation at demo scale over the in-process grid, Ray and the tests' twin.

All engines train from the same seeds; weights are compared before times are. Ratios are of runs in turn.

    PYTHONPATH=. python benchmarks/federation.py [--rounds 3] [--repeats 3] [--engines in-process ray]
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from tests.twins.fedavg import fedavg

from privoxel.cohort.cache import cache_volumes
from privoxel.cohort.environments import draw_partition
from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort
from privoxel.models import build_model, spec_of
from privoxel.recipes.reproduction.tables import Cell, config_of
from privoxel.seeding import Streams
from privoxel.training.allocator import keep_freed_memory
from privoxel.training.federated.job import Learner
from privoxel.training.federated.run import run_federation
from privoxel.training.runtime import Runtime


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=["in-process", "ray"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    config = config_of("demo", Cell("cnn3d", "uniform-iid"))
    simulator = SimulatorConfig(seed=config.seed, resolution_mm=config.cohort.resolution_mm)
    cohort = cache_volumes(simulate_cohort(simulator, config.cohort.participants), skip_bad=False)
    partition = draw_partition(config.partition, cohort.covariates, Streams(config.seed).generator("bench"))
    learners = [Learner(name, partition.rows(cohort, name)) for name in partition.learners]
    settings = {"rounds": options.rounds, "optimiser": "sgd", "learning_rate": 1e-3}  # the twin has SGD only
    job = replace(config.federation, loss_scale=55.0, **settings)
    build = partial(build_model, spec_of(config.model), cohort.grid.shape, 62.6, 1)
    runtime = Runtime(memory_format="channels_last", threads=1)

    def build_placed() -> torch.nn.Module:
        return runtime.place(build())

    def by_twin(folder: Path) -> dict[str, torch.Tensor]:
        del folder
        return fedavg(build_placed, cohort, learners, job, Streams(1))[-1]

    def by_flower(folder: Path, engine: str) -> dict[str, torch.Tensor]:
        found = run_federation(
            build, cohort, learners, job, folder=folder, streams=Streams(1), runtime=runtime, engine=engine
        )
        return load_file(found.rounds[-1])

    ways = {"plain loop": by_twin} | {name: partial(by_flower, engine=name) for name in options.engines}
    times: dict[str, list[float]] = {name: [] for name in ways}
    weights: dict[str, dict[str, torch.Tensor]] = {}
    for _ in range(options.repeats):
        for name, run in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                weights[name] = run(Path(folder))
                times[name].append(time.perf_counter() - started)
    print("| engine | s a round | over the plain loop (range) | same weights |\n|---|---|---|---|")
    for name, values in times.items():
        ratios = [a / b for a, b in zip(values, times["plain loop"], strict=True)]
        same = all(
            torch.allclose(value, weights[name][key], rtol=1e-5, atol=1e-7)
            for key, value in weights["plain loop"].items()
            if key in weights[name]
        )
        print(
            f"| {name} | {statistics.median(values) / options.rounds:.2f} | {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f}-{max(ratios):.3f}) | {'yes' if same else 'no'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
