"""Privoxel's training step beside a bare PyTorch loop over tensors already in memory.

Both train the same network on the same volumes, in turn, in one run; the bare loop is timed in every memory
format and its fastest is the baseline. Prints milliseconds per scan and the paired ratio.

    python benchmarks/training_step.py [--resolution 4] [--width 0.25] [--scans 96] [--repeats 5]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from privoxel.cohort.base import Cohort
from privoxel.cohort.cache import cache_volumes
from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort
from privoxel.config import TrainingConfig
from privoxel.models import AuditableModel, ModelSpec, build_model
from privoxel.models.base import to_memory_format
from privoxel.progress import Silent
from privoxel.seeding import Streams
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.loop import train
from privoxel.training.runtime import choose_runtime

BATCH = 8
FORMATS = ("contiguous", "channels_last")


def new_model(name: str, width: float, cohort: Cohort) -> AuditableModel:
    """Return the same untrained network each time."""
    return build_model(ModelSpec(name, width=width, head="scaled"), cohort.grid.shape, 62.6, 0)


def bare_epoch(model: AuditableModel, volumes: torch.Tensor, ages: torch.Tensor) -> float:
    """Return the seconds of one epoch of the plainest loop."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    model.train()
    started = time.perf_counter()
    for rows in torch.randperm(len(volumes)).split(BATCH):
        loss = (model(volumes[rows]) - ages[rows]).square().mean() / 55.0
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return time.perf_counter() - started


def our_epoch(model: AuditableModel, cohort: Cohort) -> float:
    """Return the seconds of one epoch of ``train``, from the memory-mapped cache, snapshot included."""
    config = TrainingConfig(epochs=1, batch_size=BATCH, learning_rate=1e-3)
    with tempfile.TemporaryDirectory() as folder:
        folders = TrainingFolders(Path(folder) / "snapshots", Path(folder) / "state")
        job = TrainingJob(config, Streams(0), folders, choose_runtime(config), Silent())
        training_set = TrainingSet(cohort, np.arange(len(cohort)), np.array([], dtype=np.int64), 55.0)
        return train(model, training_set, job).seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=float, default=4.0)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--scans", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    cohort = cache_volumes(
        simulate_cohort(SimulatorConfig(seed=0, resolution_mm=options.resolution), options.scans)
    )
    volumes = torch.from_numpy(cohort.batch(np.arange(len(cohort))))
    ages = torch.as_tensor(cohort.covariates.age, dtype=torch.float32)
    threads = torch.get_num_threads()
    print(f"{options.resolution:g} mm, width {options.width:g}, batch {BATCH}, {threads} threads")
    for name in ("cnn3d", "slice-mean"):
        rows: dict[str, list[float]] = {kind: [] for kind in (*FORMATS, "privoxel")}
        for _ in range(options.repeats + 1):
            for memory_format in FORMATS:
                model = new_model(name, options.width, cohort)
                to_memory_format(model, None, memory_format)
                rows[memory_format].append(bare_epoch(model, volumes, ages))
            rows["privoxel"].append(our_epoch(new_model(name, options.width, cohort), cohort))
        warm = {kind: seconds[1:] for kind, seconds in rows.items()}
        best = min(FORMATS, key=lambda kind: statistics.median(warm[kind]))
        ratios = [ours / bare for ours, bare in zip(warm["privoxel"], warm[best], strict=True)]
        for kind, seconds in warm.items():
            print(f"{name:12s} {kind:14s} {1e3 * statistics.median(seconds) / len(cohort):8.2f} ms/scan")
        span = f"{min(ratios):.3f}-{max(ratios):.3f}"
        print(f"{name:12s} privoxel / bare {best}: {statistics.median(ratios):.3f} ({span})")


if __name__ == "__main__":
    main()
