"""How many scans a pass should hold: measured on one small batch, never found by crashing."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

CACHE_BYTES = 64 * 2**20  # on CPUs, more scans at once than the caches hold only make a pass slower
MOST = 64
HEADROOM = 1.5  # kernels' own work space and the allocator's rounding


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the bytes of the tensors alive at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and count what it made."""
        made = function(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._count, made)
        return made

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._seen:
            self._seen.add(key)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, key, storage.nbytes())
        return tensor

    def _free(self, key: int, count: int) -> None:
        self._seen.discard(key)
        self.now -= count


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Return the bytes of tensors that ``run`` holds at its peak, beside those that were there before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with _Live() as live:
        run()
    return live.peak


def fewest_scans(model: nn.Module, volumes: Tensor) -> int:
    """Return 2 where one scan alone would meet PyTorch's slow kernel for single rows on CPUs, else 1."""
    rows: list[int] = []
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
        for layer in convolutions
    ]
    try:
        with torch.no_grad():
            model(volumes[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return 2 if 1 in rows and volumes.device.type == "cpu" else 1


def suggest_batch(bytes_per_scan: int, budget: int, device: torch.device, fewest: int = 1) -> int:
    """Return the number of scans that a pass should hold within ``budget`` bytes, at least one.

    ``fewest`` is what is worth leaving the caches for on a CPU (``fewest_scans``).

    >>> suggest_batch(40 * 2**20, 4 * 2**30, torch.device("cpu"), 2)
    2
    >>> suggest_batch(40 * 2**20, 1 * 2**30, torch.device("cuda"))
    17
    """
    fits = int(budget / (HEADROOM * max(1, bytes_per_scan)))
    most = MOST
    if device.type == "cpu":
        most = min(most, max(fewest, CACHE_BYTES // max(1, bytes_per_scan)))
    return max(1, min(fits, most))
