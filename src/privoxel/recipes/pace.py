"""What a model costs: seconds of training and of reading a scan, measured on a few steps, and sizes."""

import resource
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from privoxel.attacks.base import Attack, needs_models
from privoxel.cohort.base import Cohort
from privoxel.config import ModelConfig, RunConfig
from privoxel.executor import one_thread
from privoxel.gradients.one_pass import Extractor
from privoxel.models import AuditableModel, build_model, spec_of
from privoxel.recipes.target import needed_signals
from privoxel.seeding import torch_stream
from privoxel.signals.extract import Extraction, signal_bytes
from privoxel.signals.table import GRADIENT
from privoxel.training.runtime import Runtime

IMAGE = f"{GRADIENT}conv6"


class Pace(NamedTuple):
    """What a model costs: seconds per training scan (of a target; of a shadow, on one thread) and sizes.

    ``weights`` and ``tensors`` are how many there are, ``signal_bytes`` what the signals of a scan take,
    ``signal_seconds`` those of reading them; ``image`` are the values of the gradient that the paper's attack
    looks at as an image, ``memory`` the most bytes that the measuring process held.
    """

    seconds: float
    shadow_seconds: float
    weights: int
    signal_bytes: int
    tensors: int
    signal_seconds: float = 0.0
    image: int = 0
    memory: float = 0.0


def measure_pace(
    settings: ModelConfig, attacks: Sequence[Attack], config: RunConfig, cohort: Cohort, runtime: Runtime
) -> Pace:
    """Return the pace of a model that ``attacks`` read, measured on two steps and one pass."""
    size = config.training.batch_size
    model = build_model(spec_of(settings), cohort.grid.shape, 60.0, 0)
    runtime.place(model)
    volumes = runtime.volumes(np.full((size, 1, *cohort.grid.shape), 0.5, dtype=np.float32))
    pace = alone = _seconds_of_a_step(model, volumes, runtime) / size
    if any(map(needs_models, attacks)) and runtime.threads > 1:
        with one_thread():
            alone = _seconds_of_a_step(model, volumes, runtime) / size
    model.eval()
    wanted = needed_signals(model, attacks, config.signals.extra)
    sizes = {name: tensor.numel() for name, tensor in model.named_parameters()}
    extraction, two = Extraction(wanted, runtime=runtime), volumes[:1].repeat(2, 1, 1, 1, 1)
    reading = _seconds_of_a_pass(model, two, extraction) / len(two)
    image = sizes.get(f"{IMAGE.removeprefix(GRADIENT)}.weight", 0)
    stored = signal_bytes(model, extraction, volumes[:1])
    return Pace(pace, alone, sum(sizes.values()), stored, len(sizes), reading, image, peak_memory(runtime))


def _seconds_of_a_pass(model: AuditableModel, volumes: Tensor, extraction: Extraction) -> float:
    """Return the seconds of reading the signals of ``volumes`` once, after a pass that warms up."""
    ages = volumes.new_full((len(volumes),), 60.0)
    extractor = Extractor(model, extraction.request, volumes=volumes, ages=ages)
    for _ in range(2):
        started = time.perf_counter()
        extractor(volumes, ages)
        _wait_for(volumes)
    return time.perf_counter() - started


def _wait_for(volumes: Tensor) -> None:
    if volumes.is_cuda:
        torch.cuda.synchronize()


def _seconds_of_a_step(model: AuditableModel, volumes: Tensor, runtime: Runtime) -> float:
    """Return the seconds of the second of two training steps; the first one warms up."""
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        with torch_stream(0), runtime.autocast():
            loss = model(volumes).float().square().mean()
        loss.backward()
        _wait_for(volumes)
        seconds = time.perf_counter() - started
    return seconds


def peak_memory(runtime: Runtime) -> float:
    """Return the most bytes that this process has held: of the GPU where ``runtime`` computes on one."""
    if runtime.device.startswith("cuda"):
        return float(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)
