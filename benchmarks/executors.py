"""Eight single-threaded shadow trainings: one after another, in joblib's processes, and on Ray.

Each back end trains the same shadows from the same volume cache, in turn, every second repeat in reverse; the
weights must be equal bit for bit. Every process is set up alike; Ray's start and the import of PyTorch in the
workers of both count. The speed-up is the geometric mean over repeats of the serial seconds over those of the
back end beside it, with Student's interval on its logarithm. Wants a quiet machine with at least as many
cores as workers.

    python benchmarks/executors.py [--workers 2] [--shadows 8] [--scans 200] [--epochs 6] [--repeats 5]
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from privoxel.cohort.base import Cohort
from privoxel.cohort.cache import cache_volumes
from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort
from privoxel.config import ModelConfig, TrainingConfig
from privoxel.evaluation.intervals import t_quantile
from privoxel.executor import Executor, Job
from privoxel.recipes.shadow_training import ShadowTraining, train_shadow
from privoxel.seeding import Streams
from privoxel.training.job import TrainingFolders
from privoxel.training.runtime import Runtime


def shadows(cohort: Cohort, options: argparse.Namespace, folder: Path) -> list[Job]:
    """Return the trainings: half of the scans each, a quarter-width 3D-CNN."""
    model = ModelConfig(width=0.25, head="scaled", dropout=0.0)
    epochs = options.epochs
    training = TrainingConfig(epochs=epochs, learning_rate=1e-3, snapshot_every=epochs)
    jobs = []
    for k in range(options.shadows):
        streams = Streams(0).child(str(k))
        order = streams.generator("design").permutation(len(cohort))
        rows, unseen = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
        place = folder / str(k)
        folders = TrainingFolders(place, place / "state")
        runtime = Runtime(memory_format="channels_last")
        job = ShadowTraining(model, training, cohort, rows, unseen, streams, folders, runtime)
        jobs.append(Job(f"shadow-{k}", train_shadow, (job,)))
    return jobs


def weights(folder: Path) -> list[bytes]:
    """Return the bytes of all weights in ``folder``."""
    return [path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))]


def speed_up(serial: Sequence[float], own: Sequence[float]) -> str:
    """Return the speed-up of paired repeats and its 95 % interval, in words."""
    logs = np.log(np.asarray(serial) / np.asarray(own))
    mean = float(logs.mean())
    if len(logs) < 2:
        return f"{math.exp(mean):5.2f} × serial (no interval from one repeat)"
    reach = t_quantile(0.95, len(logs) - 1.0) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    low, high = (math.exp(mean + sign * reach) for sign in (-1, 1))
    return f"{math.exp(mean):5.2f} × serial (95 % interval {low:.2f} to {high:.2f})"


def main() -> None:
    """Print seconds and speed-up of each back end."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("workers", 2), ("shadows", 8), ("scans", 200), ("epochs", 6), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    cohort = cache_volumes(simulate_cohort(SimulatorConfig(seed=1, resolution_mm=4.0), options.scans))
    executors = [Executor(), Executor("joblib", options.workers), Executor("ray", options.workers)]
    seconds: dict[str, list[float]] = {executor.backend: [] for executor in executors}
    for repeat in range(options.repeats):
        trained = []
        for executor in executors[:: -1 if repeat % 2 else 1]:
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                executor.run(shadows(cohort, options, Path(folder)))
                seconds[executor.backend].append(time.perf_counter() - started)
                trained.append(weights(Path(folder)))
        assert trained[0] == trained[1] == trained[2], "back ends differ"
    print(
        f"{options.shadows} trainings, {options.workers} workers, {options.repeats} repeats in turn; aim 1.80"
    )
    for backend, times in seconds.items():
        said = "" if backend == "serial" else speed_up(seconds["serial"], times)
        print(f"{backend:8s} {statistics.median(times):7.1f} s  {said}".rstrip())


if __name__ == "__main__":
    main()
