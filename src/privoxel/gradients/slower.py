"""Correct, slower gradients: of one module scan by scan, or of the whole model scan by scan."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from privoxel.gradients.planning import Unit
from privoxel.gradients.request import Loss
from privoxel.gradients.watching import Call


def module_gradients(
    module: nn.Module, unit: Unit, call: Call, outer: Tensor, scans: int
) -> dict[str, Tensor]:
    """Return the gradients (scans, *shape) of a module's tensors by running it on each scan's inputs alone.

    Args:
        module: any module; only what it returns first is looked at.
        unit: which rows are whose.
        call: what it read.
        outer: gradient of what it returned.
        scans: number of scans.
    """
    tensors = [module.get_parameter(local) for local in unit.tensors]
    found: list[tuple[Tensor, ...]] = []
    with _requiring(tensors):
        for scan in range(scans):
            positional, named = _inputs_of(call, unit, scan, scans)
            output = module(*positional, **named)
            output = output[0] if isinstance(output, tuple) else output
            inner = unit.made.of_scan(outer, scan, scans)
            found.append(torch.autograd.grad(output, tensors, inner, allow_unused=True))
    return {
        local: _stacked(t, [f[k] for f in found])
        for k, (local, t) in enumerate(zip(unit.tensors, tensors, strict=True))
    }


def loop_gradients(
    model: nn.Module, names: Sequence[str], volumes: Tensor, ages: Tensor, loss: Loss
) -> dict[str, Tensor]:
    """Return the gradients (scans, *shape) of the named tensors by differentiating each scan's loss alone."""
    tensors = [model.get_parameter(name) for name in names]
    found = []
    with _requiring(tensors):
        for scan in range(len(volumes)):
            own = slice(scan, scan + 1)
            total = loss(model(volumes[own]), ages[own]).sum()
            found.append(torch.autograd.grad(total, tensors, allow_unused=True))
    return {name: _stacked(tensors[k], [f[k] for f in found]) for k, name in enumerate(names)}


@contextmanager
def _requiring(tensors: Sequence[Tensor]) -> Iterator[None]:
    before = [tensor.requires_grad for tensor in tensors]
    for tensor in tensors:
        tensor.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for tensor, required in zip(tensors, before, strict=True):
            tensor.requires_grad_(required)


def _inputs_of(call: Call, unit: Unit, scan: int, scans: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return one scan's share of what a call read."""
    rows = iter(unit.arguments)

    def share(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        mine = next(rows)
        return value if mine is None else mine.of_scan(value, scan, scans)

    return tuple(share(v) for v in call.inputs), {name: share(v) for name, v in call.options.items()}


def _stacked(tensor: Tensor, gradients: Sequence[Tensor | None]) -> Tensor:
    return torch.stack([torch.zeros_like(tensor) if g is None else g for g in gradients]).detach()
