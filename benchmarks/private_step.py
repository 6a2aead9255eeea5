"""The step of private training beside the plain one and beside Opacus' own ways, on the same batch.

All take the same volumes already in memory and the same optimiser; they are timed in turn. Prints the
median milliseconds of a step, the paired ratio to the plain step with its range, and the tensors held at the
peak of a step.

    python benchmarks/private_step.py [--resolution 4] [--width 0.25] [--batch 8] [--repeats 7]
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

from privoxel.cohort.base import Cohort
from privoxel.cohort.cache import cache_volumes
from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort
from privoxel.config import PrivacyConfig, TrainingConfig
from privoxel.gradients.batching import peak_bytes
from privoxel.models import AuditableModel, ModelSpec, build_model
from privoxel.models.base import to_memory_format
from privoxel.progress import Silent
from privoxel.seeding import Streams
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.private.steps import PrivateSteps
from privoxel.training.runtime import choose_runtime
from privoxel.training.steps import PlainSteps

Step = Callable[[], object]
SCALE = 55.0
NOISE, CLIP = 1.0, 1.0


def new_model(name: str, width: float, cohort: Cohort) -> AuditableModel:
    """Return the same untrained network each time, in the memory format of training."""
    spec = ModelSpec(name, width=width, head="scaled", dropout=0.0)
    model = build_model(spec, cohort.grid.shape, 62.6, 0)
    to_memory_format(model, None, "channels_last")
    return model


def ours(name: str, width: float, cohort: Cohort, folder: Path) -> Iterator[tuple[str, Step]]:
    """Yield the plain step and both private ones."""
    rows = np.arange(len(cohort))
    training_set = TrainingSet(cohort, rows, rows[:0], SCALE)
    config = TrainingConfig(batch_size=len(rows), epochs=1)
    folders = TrainingFolders(folder / "snapshots", folder / "state")
    plain = PlainSteps(
        new_model(name, width, cohort),
        training_set,
        TrainingJob(config, Streams(0), folders, choose_runtime(config), Silent()),
    )
    next(plain.batches(1))
    yield "plain", lambda: plain.update(rows)
    for clipping in ("per-sample", "ghost"):
        privacy = PrivacyConfig(noise_multiplier=NOISE, clip=CLIP, clipping=clipping, randomness="seeded")
        job = TrainingJob(config, Streams(0), folders, choose_runtime(config), Silent(), privacy)
        steps = PrivateSteps(new_model(name, width, cohort), training_set, job)
        next(steps.batches(1))
        yield f"privoxel, {clipping}", lambda steps=steps: steps.update(rows)  # type: ignore[misc]


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


def all_steps(name: str, width: float, cohort: Cohort, folder: Path) -> Iterator[tuple[str, Step]]:
    """Yield every way by name; those of Opacus only where they run."""
    yield from ours(name, width, cohort, folder)
    volumes = torch.from_numpy(cohort.batch(np.arange(len(cohort))))
    ages = torch.as_tensor(cohort.covariates.age, dtype=torch.float32)
    for mode in ("hooks", "functorch", "ew", "ghost"):
        try:
            model = new_model(name, width, cohort)
            model.train()
            step = (
                opacus_ghost_step(model, volumes, ages)
                if mode == "ghost"
                else opacus_step(model, mode, volumes, ages)
            )
            step()
        except Exception as error:
            print(f"{name:12s} Opacus, {mode:9s} raises {type(error).__name__}: {str(error)[:90]}")
            continue
        yield f"Opacus, {mode}", step


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=float, default=4.0)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    config = SimulatorConfig(seed=0, resolution_mm=options.resolution)
    cohort = cache_volumes(simulate_cohort(config, options.batch))
    print(f"{options.resolution:g} mm, width {options.width:g}, batch {options.batch}, ", end="")
    print(f"{torch.get_num_threads()} threads")
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
            print(f"{name:12s} {kind:22s} {took:8.1f} ms  {span}  {held[kind]:7.1f} MiB")


if __name__ == "__main__":
    main()
