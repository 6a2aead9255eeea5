"""Milliseconds per training scan by network, grid, memory format, threads and form of norm-and-pool.

A step is forward, backward and Adam on a batch of 8 in float32. The defaults of memory format and of the
fused norm-and-pool were chosen from this table. Run: python benchmarks/layers.py [--threads 1 2]
"""

import argparse
import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from privoxel.models import MODELS, ModelSpec, build_model
from privoxel.models.base import AuditableModel, to_memory_format

BATCH = 8
SIZES = {
    "6 mm, width 1/4": ((27, 32, 27), 0.25, 15),
    "4 mm, width 1/4": ((40, 48, 40), 0.25, 9),
    "4 mm, width 1": ((40, 48, 40), 1.0, 3),
}
FORMATS = ("contiguous", "channels_last")


class Case(NamedTuple):
    """One row of the table."""

    model: str
    size: str
    threads: int
    memory_format: str
    fused: bool


def build(case: Case) -> AuditableModel:
    """Return the network of ``case`` in training mode."""
    shape, width, _ = SIZES[case.size]
    model = build_model(ModelSpec(case.model, width=width), shape, 62.6, 0)
    model.fused = case.fused
    to_memory_format(model, None, case.memory_format)
    return model.train()


def training_step(case: Case, *, fused_adam: bool) -> Callable[[], None]:
    """Return one step of training on a fixed random batch."""
    model = build(case)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3, fused=fused_adam)
    generator = torch.Generator().manual_seed(0)
    volumes = torch.randn(BATCH, 1, *SIZES[case.size][0], generator=generator)
    ages = 62.6 + 7.4 * torch.randn(BATCH, generator=generator)

    def step() -> None:
        optimiser.zero_grad()
        (model(volumes) - ages).square().mean().backward()
        optimiser.step()

    return step


class Taken(NamedTuple):
    """Milliseconds per scan: on the clock, and of all threads' processor time (steady on a busy machine)."""

    wall: float
    processor: float


def milliseconds(step: Callable[[], None], repeats: int) -> Taken:
    """Return the fastest of ``repeats`` times of ``step`` per scan, after two warm-up steps."""
    step()
    step()
    wall, processor = [], []
    for _ in range(repeats):
        start, start_processor = time.perf_counter(), time.process_time()
        step()
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_processor)
    return Taken(*(min(seconds) / BATCH * 1e3 for seconds in (wall, processor)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--fused-adam", action="store_true")
    chosen = parser.parse_args()
    print("| network | grid | threads | memory format | norm and pool | ms per scan | processor ms |")
    print("|---|---|---|---|---|---|---|")
    for model, size, threads in itertools.product(chosen.models, chosen.sizes, chosen.threads):
        torch.set_num_threads(threads)
        for memory_format, fused in itertools.product(FORMATS, (False, True)):
            case = Case(model, size, threads, memory_format, fused)
            taken = milliseconds(training_step(case, fused_adam=chosen.fused_adam), SIZES[size][2])
            form = "fused" if fused else "plain"
            times = f"{taken.wall:.1f} | {taken.processor:.1f}"
            print(f"| {model} | {size} | {threads} | {memory_format} | {form} | {times} |", flush=True)


if __name__ == "__main__":
    main()
