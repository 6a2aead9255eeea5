"""Who trains the reference models of a run: how many at a time, and on which device."""

from dataclasses import replace
from typing import NamedTuple

from privoxel.config import TrainingConfig
from privoxel.errors import ConfigError
from privoxel.executor import Executor
from privoxel.training.runtime import Runtime


class Trainers(NamedTuple):
    """Where reference models are trained as jobs, and what each computes on, with one thread."""

    executor: Executor
    runtime: Runtime


def choose_trainers(executor: Executor, config: TrainingConfig, runtime: Runtime) -> Trainers:
    """Return who trains the references of a target that is trained on ``runtime``.

    Without Ray one after another where that is a GPU, else by the workers of ``executor``. On Ray as many at
    a time as the cluster holds: with a share of a GPU each on the GPU that Ray gives them, whatever this
    machine has; without one on CPUs. If nobody says how large a share, they take a whole one where targets
    are trained on a GPU. Precision is the target's; CPUs have one only.

    Raises:
        ConfigError: if a share of a GPU contradicts the device of ``config``.
        JobError: if a cluster is not reached, or no node holds a job.
    """
    alone, on_gpu = replace(runtime, threads=1), runtime.device.startswith("cuda")
    if executor.backend != "ray":
        return Trainers(Executor() if on_gpu else executor, alone)
    share = float(on_gpu) if executor.gpus is None else executor.gpus
    wrong = {"cpu": share > 0, "cuda": share == 0}
    if wrong.get(config.device, False):
        raise ConfigError(
            f"[training] device = '{config.device}' needs {'no' if share else 'a'} share of a GPU for each "
            f"shadow, got --gpu-share {share:g}. Correct one, or use device = 'auto'."
        )
    if share == 0:
        alone = replace(alone, device="cpu", bfloat16=False)
    elif not on_gpu:
        alone = replace(alone, device="cuda")
    return Trainers(replace(executor, gpus=share).sized(), alone)
