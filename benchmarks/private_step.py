"""The step of private training beside the plain one and beside Opacus' own ways, on the same batch.

All take the same volumes from a cache and the same optimiser. Times: in one process, in turn; the median
milliseconds of a step and the paired ratio to the plain step with its range. Memory: each way in a fresh
process; the peak of its anonymous memory (no way starts other processes) while the way is set up and makes
three steps, beyond what model and volumes took before, as ``benchmarks/signals.py memory`` has it. The table
of times has tensors held at the peak of a later step, counted at PyTorch's dispatcher: what code asks for,
without what oneDNN and the allocator hold.

    python benchmarks/private_step.py [table|memory] [--resolution 4] [--width 0.25] [--batch 8] [--repeats 7]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from anonymous_memory import peak_while
from opacus import GradSampleModule
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

from privoxel.cohort.base import Cohort
from privoxel.cohort.cache import cache_volumes
from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort
from privoxel.config import TrainingConfig
from privoxel.gradients.batching import peak_bytes
from privoxel.models import AuditableModel, ModelSpec, build_model
from privoxel.models.base import to_memory_format
from privoxel.privacy_config import PrivacyConfig
from privoxel.progress import Silent
from privoxel.seeding import Streams
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.private.steps import PrivateSteps
from privoxel.training.runtime import choose_runtime
from privoxel.training.steps import PlainSteps, Steps

Step = Callable[[], object]
SCALE = 55.0
NOISE, CLIP = 1.0, 1.0
STEPS, LIMIT = 3, 1.5
WAYS = {
    "plain": ("privoxel", "plain"),
    "privoxel, per-sample": ("privoxel", "per-sample"),
    "privoxel, ghost": ("privoxel", "ghost"),
    "Opacus, hooks": ("Opacus", "hooks"),
    "Opacus, functorch": ("Opacus", "functorch"),
    "Opacus, ew": ("Opacus", "ew"),
    "Opacus, ghost": ("Opacus", "ghost"),
}


def new_model(name: str, width: float, cohort: Cohort) -> AuditableModel:
    """Return the same untrained network each time, in the memory format of training."""
    spec = ModelSpec(name, width=width, head="scaled", dropout=0.0)
    model = build_model(spec, cohort.grid.shape, 62.6, 0)
    to_memory_format(model, None, "channels_last")
    return model


def our_step(model: AuditableModel, way: str, cohort: Cohort, folder: Path) -> Step:
    """Return the plain step, or the private one with a way of clipping."""
    rows = np.arange(len(cohort))
    training_set = TrainingSet(cohort, rows, rows[:0], SCALE)
    config = TrainingConfig(batch_size=len(rows), epochs=1)
    folders = TrainingFolders(folder / "snapshots", folder / "state")
    job = TrainingJob(config, Streams(0), folders, choose_runtime(config), Silent())
    steps: Steps
    if way == "plain":
        steps = PlainSteps(model, training_set, job)
    else:
        privacy = PrivacyConfig(noise_multiplier=NOISE, clip=CLIP, clipping=way, randomness="seeded")
        steps = PrivateSteps(model, training_set, replace(job, privacy=privacy))
    next(steps.batches(1))
    return lambda: steps.update(rows)


def opacus_step(model: AuditableModel, mode: str, volumes: torch.Tensor, ages: torch.Tensor) -> Step:
    """Return a step of Opacus with per-sample gradients by ``mode``."""
    wrapped = GradSampleModule(model) if mode == "hooks" else GradSampleModule(model, force_functorch=True)
    if mode == "ew":
        from opacus.grad_sample import GradSampleModuleExpandedWeights  # noqa: PLC0415

        wrapped = GradSampleModuleExpandedWeights(model)
    adam = torch.optim.Adam(wrapped.parameters(), lr=1e-4, weight_decay=1e-4, foreach=True)
    optimiser = DPOptimizer(adam, noise_multiplier=NOISE, max_grad_norm=CLIP, expected_batch_size=len(ages))

    def step() -> None:
        optimiser.zero_grad()
        ((wrapped(volumes) - ages).square().mean() / SCALE).backward()
        optimiser.step()

    return step


def opacus_ghost_step(model: AuditableModel, volumes: torch.Tensor, ages: torch.Tensor) -> Step:
    """Return a step of Opacus with ghost clipping."""
    wrapped = GradSampleModuleFastGradientClipping(model, max_grad_norm=CLIP, use_ghost_clipping=True)
    adam = torch.optim.Adam(wrapped.parameters(), lr=1e-4, weight_decay=1e-4, foreach=True)
    optimiser = DPOptimizerFastGradientClipping(
        adam, noise_multiplier=NOISE, max_grad_norm=CLIP, expected_batch_size=len(ages)
    )
    criterion = DPLossFastGradientClipping(wrapped, optimiser, torch.nn.MSELoss(reduction="mean"))

    def step() -> None:
        optimiser.zero_grad()
        criterion(wrapped(volumes)[:, None], ages[:, None]).backward()
        optimiser.step()

    return step


def step_of(way: str, model: AuditableModel, cohort: Cohort, folder: Path) -> Step:
    """Return the step of one of ``WAYS`` for ``model``."""
    maker, mode = WAYS[way]
    if maker == "privoxel":
        return our_step(model, mode, cohort, folder)
    model.train()
    volumes = torch.from_numpy(cohort.batch(np.arange(len(cohort))))
    ages = torch.as_tensor(cohort.covariates.age, dtype=torch.float32)
    if mode == "ghost":
        return opacus_ghost_step(model, volumes, ages)
    return opacus_step(model, mode, volumes, ages)


def all_steps(name: str, width: float, cohort: Cohort, folder: Path) -> Iterator[tuple[str, Step]]:
    """Yield every way that runs, after a first step."""
    for way in WAYS:
        try:
            step = step_of(way, new_model(name, width, cohort), cohort, folder)
            step()
        except Exception as error:
            print(f"{name:12s} {way:22s} raises {type(error).__name__}: {str(error)[:90]}")
            continue
        yield way, step


def table(options: argparse.Namespace, cohort: Cohort) -> None:
    """Print times and tensors at the peak."""
    for name in ("cnn3d", "slice-mean"):
        with tempfile.TemporaryDirectory() as folder:
            steps = dict(all_steps(name, options.width, cohort, Path(folder)))
            seconds: dict[str, list[float]] = {kind: [] for kind in steps}
            for _ in range(options.repeats + 1):
                for kind, step in steps.items():
                    started = time.perf_counter()
                    step()
                    seconds[kind].append(time.perf_counter() - started)
            held = {kind: peak_bytes(step, torch.device("cpu")) / 2**20 for kind, step in steps.items()}
        for kind, found in seconds.items():
            ratios = [a / b for a, b in zip(found[1:], seconds["plain"][1:], strict=True)]
            span = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            took = 1e3 * statistics.median(found[1:])
            print(f"{name:12s} {kind:22s} {took:8.1f} ms  {span}  {held[kind]:7.1f} MiB of tensors")


def one_peak(options: argparse.Namespace, cohort: Cohort) -> None:
    """Print the peak of one way in this process, in bytes."""
    model = new_model(options.network, options.width, cohort)
    choose_runtime(TrainingConfig())  # threads and allocator, for every way alike
    with tempfile.TemporaryDirectory() as folder:

        def run() -> None:
            step = step_of(options.way, model, cohort, Path(folder))
            for _ in range(STEPS):
                step()

        print(peak_while(run))


def memory(options: argparse.Namespace) -> None:
    """Print the peak of every way in fresh processes (median of ``processes``), and over the plain one's."""
    print("| network | way | anonymous memory, MB (range) | ratio | limit |\n|---|---|---|---|---|")
    for name in ("cnn3d", "slice-mean"):
        plain = 0.0
        for way in WAYS:
            peaks = [peak_of(way, name, options) for _ in range(options.processes)]
            known = [peak / 1e6 for peak in peaks if peak is not None]
            if not known:
                print(f"| {name} | {way} | raises | | |", flush=True)
                continue
            middle = statistics.median(known)
            plain = plain or middle
            limit = LIMIT if way.startswith("privoxel") else ""
            span = f"{middle:.0f} ({min(known):.0f}-{max(known):.0f})"
            print(f"| {name} | {way} | {span} | {middle / plain:.2f} | {limit} |", flush=True)


def peak_of(way: str, name: str, options: argparse.Namespace) -> int | None:
    """Return the peak of one way in a fresh process, in bytes; None where it does not run."""
    settings = {"resolution": options.resolution, "width": options.width, "batch": options.batch}
    command = [sys.executable, __file__, "one-peak", "--network", name, "--way", way]
    command += [text for key, value in settings.items() for text in (f"--{key}", str(value))]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(found.stdout.splitlines()[-1]) if found.returncode == 0 else None


def main() -> None:
    """Run the asked-for part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", default="table", choices=["table", "memory", "one-peak"])
    parser.add_argument("--resolution", type=float, default=4.0)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--network", default="cnn3d")
    parser.add_argument("--way", default="plain", choices=list(WAYS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.part != "one-peak":
        print(f"{options.resolution:g} mm, width {options.width:g}, batch {options.batch}, ", end="")
        print(f"{torch.get_num_threads()} threads")
    if options.part == "memory":
        memory(options)
        return
    config = SimulatorConfig(seed=0, resolution_mm=options.resolution)
    cohort = cache_volumes(simulate_cohort(config, options.batch))
    {"table": table, "one-peak": one_peak}[options.part](options, cohort)


if __name__ == "__main__":
    main()
