"""Where and how tensors are computed: device, precision, memory format, threads.

These choices never change what is computed beyond rounding; all are recorded in the manifest.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from privoxel.arrays import Float32Array
from privoxel.config import TrainingConfig
from privoxel.errors import ConfigError
from privoxel.executor import usable_cores
from privoxel.models.base import to_memory_format
from privoxel.training.allocator import keep_freed_memory
from privoxel.training.device import Precision, choose_device, choose_precision


@final
@dataclass(frozen=True)
class Runtime:
    """A device and how to compute on it."""

    device: str = "cpu"
    bfloat16: bool = False
    memory_format: str = "contiguous"
    threads: int = 1

    def prepare(self) -> None:
        """Set up the process that computes: threads, memory, TF32. Every process of a run must be told.

        Raises:
            ConfigError: if this process sees no device of that kind.
        """
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(
                "A process of this run needs to see a CUDA device, got none. On a cluster install PyTorch "
                "for CUDA on every node and set --gpu-share, or use device = 'cpu'."
            )
        torch.set_num_threads(self.threads)
        keep_freed_memory()
        torch.backends.cudnn.allow_tf32 = False  # its ten bits would be visible in gradients

    def place(self, model: nn.Module) -> nn.Module:
        """Move ``model`` to the device and memory format, in place."""
        model.to(self.device)
        to_memory_format(model, None, self.memory_format)
        return model

    def volumes(self, batch: Float32Array) -> Tensor:
        """Return a batch of volumes (n, 1, x, y, z) on the device."""
        return torch.from_numpy(batch).to(self.device, non_blocking=True)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the block in which a forward pass runs."""
        if self.bfloat16:
            return torch.autocast(self.device, dtype=torch.bfloat16)
        return nullcontext()

    def to_dict(self) -> dict[str, Any]:
        """Return the choices for the manifest."""
        return asdict(self)


def choose_runtime(config: TrainingConfig) -> Runtime:
    """Return the runtime that ``config`` asks for, with this process prepared for it.

    bfloat16 is used on CUDA only, after a self-check of its kernels (``choose_precision``); on CPUs the
    weight gradient of small 3-D convolutions is wrong in bfloat16, so training stays in float32 there.
    """
    device = choose_device(config.device)
    bfloat16 = config.precision == "auto" and choose_precision(device) is Precision.BFLOAT16
    memory_format = "channels_last" if config.memory_format == "auto" else config.memory_format
    runtime = Runtime(str(device), bfloat16, memory_format, config.threads or usable_cores())
    runtime.prepare()
    return runtime
