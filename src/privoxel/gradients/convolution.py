"""Per-scan weight gradients of convolutions of one to three axes, plain and transposed.

Large maps: one weight-gradient kernel of the framework per scan. Small maps: one grouped kernel for all
scans, or, where only norms are wanted, no gradient at all: the squared norm of Σ_p g_p ⊗ a_p (a_p the patch
that position p reads) is Σ_pq (g_p·g_q)(a_p·a_q), and a_p·a_q is a sum of shifted inner products of voxels.
"""

import itertools
from collections.abc import Iterator
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from privoxel.gradients.squares import squared_norms, squared_norms_by_name

Gradients = dict[str, Tensor]
GRAM_SPEED = 0.5  # matrix products and shifted sums run at about half the speed of the weight-gradient kernel
GRAM_START = 8e6  # multiply-adds that could be done while the shifted sums are set up
GROUPED_POSITIONS = 512  # below this a kernel for each scan costs more to start than to run
FAST_SINGLE = (
    20480  # rows × channels × first two axes from which the CPU kernel of a single row is the fast one
)
WIDE_KERNEL = 3


def conv_gradients(layer: Any, inputs: Tensor, outer: Tensor) -> Gradients:
    """Return the gradients of weight and bias, (scans, *shape)."""
    if _is_pointwise(layer):
        return _pointwise(layer, inputs, outer)
    if _groups_pay(layer, inputs, outer):
        return _grouped(layer, inputs, outer)
    found = list(_by_scan(layer, inputs, outer))
    return {local: torch.stack([gradients[local] for gradients in found]) for local in found[0]}


def conv_squared_norms(layer: Any, inputs: Tensor, outer: Tensor) -> Gradients:
    """Return the squared norms (scans,) of the gradients of weight and bias."""
    if _gram_pays(layer, inputs, outer):
        found = {"weight": _gram_norm(layer, inputs, outer)}
        return found if layer.bias is None else found | {"bias": squared_norms(_bias(outer))}
    if _is_pointwise(layer) or _groups_pay(layer, inputs, outer):
        return squared_norms_by_name(conv_gradients(layer, inputs, outer))
    # One scan at a time: its gradient is gone before the next one is made.
    squares = [
        squared_norms_by_name({n: t[None] for n, t in found.items()})
        for found in _by_scan(layer, inputs, outer)
    ]
    return {local: torch.cat([of_scan[local] for of_scan in squares]) for local in squares[0]}


def _bias(outer: Tensor) -> Tensor:
    return outer.sum((1, *range(3, outer.dim())))


def _is_transposed(layer: Any) -> bool:
    return isinstance(layer, nn.modules.conv._ConvTransposeNd)


def _is_plain(layer: Any) -> bool:
    """Return whether the layer has neither stride, dilation, groups nor transposition."""
    return not _is_transposed(layer) and all(n == 1 for n in (*layer.stride, *layer.dilation, layer.groups))


def _is_pointwise(layer: Any) -> bool:
    padding = (0,) if isinstance(layer.padding, str) else layer.padding
    return _is_plain(layer) and all(n == 1 for n in layer.kernel_size) and not any(padding)


def _pointwise(layer: Any, inputs: Tensor, outer: Tensor) -> Gradients:
    """Return the gradients of a layer that reads every voxel by itself: matrix products."""
    x, g = (t.movedim(2, -1).flatten(1, -2) for t in (inputs, outer))
    weight = (g.transpose(1, 2) @ x).reshape(len(x), *layer.weight.shape)
    return {"weight": weight} if layer.bias is None else {"weight": weight, "bias": _bias(outer)}


def _by_scan(layer: Any, inputs: Tensor, outer: Tensor) -> Iterator[Gradients]:
    """Yield the weight and bias gradient of one scan after the other."""
    x, padding = _padded(layer, inputs.flatten(0, 1))
    x = torch.unflatten(x, 0, inputs.shape[:2])
    if _slabs_pay(layer, x, outer):
        x, outer, padding = _slabs(x, outer, layer.kernel_size[0], padding)
    for rows, made in zip(x, outer, strict=True):
        weight, bias = _backward(layer, rows, made, layer.weight, padding, layer.groups)
        yield {"weight": weight} if bias is None else {"weight": weight, "bias": bias}


def _grouped(layer: Any, inputs: Tensor, outer: Tensor) -> Gradients:
    """Return the gradients of scans of one row each, as one convolution that has every scan for a group."""
    scans = len(inputs)
    x, padding = _padded(layer, inputs.flatten(0, 1))
    x, g = (t.flatten(0, 1)[None].contiguous() for t in (x, outer.flatten(0, 1)))
    shape = (scans * layer.weight.shape[0], *layer.weight.shape[1:])
    weight, bias = _backward(layer, x, g, layer.weight.new_empty(shape), padding, layer.groups * scans)
    found = {"weight": torch.unflatten(weight, 0, (scans, -1))}
    return found if bias is None else found | {"bias": torch.unflatten(bias, 0, (scans, -1))}


def _backward(
    layer: Any, x: Tensor, g: Tensor, weight: Tensor, padding: list[int], groups: int
) -> tuple[Tensor, Tensor | None]:
    mask = [False, True, layer.bias is not None]
    found = torch.ops.aten.convolution_backward(
        g, x, weight, [g.shape[1]], layer.stride, padding, layer.dilation,
        _is_transposed(layer), layer.output_padding, groups, mask,
    )  # fmt: skip
    return found[1], found[2]


def _padded(layer: Any, x: Tensor) -> tuple[Tensor, list[int]]:
    """Return the input and its remaining symmetric zero padding."""
    if layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return x, list(layer.padding)
    around = layer._reversed_padding_repeated_twice
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return functional.pad(x, around, mode=mode), [0] * (x.dim() - 2)


def _groups_pay(layer: Any, inputs: Tensor, outer: Tensor) -> bool:
    """Return whether scans are so small that one grouped kernel beats a kernel each."""
    single = inputs.shape[1] == 1 and len(inputs) > 1
    return single and not _is_transposed(layer) and prod(outer.shape[3:]) < GROUPED_POSITIONS


def _slabs_pay(layer: Any, inputs: Tensor, outer: Tensor) -> bool:
    """Return whether single rows should be cut up: PyTorch has a slow CPU kernel for small single rows."""
    if inputs.device.type != "cpu" or inputs.shape[1] > 1 or not _is_plain(layer) or outer.shape[3] == 1:
        return False
    is_wide = all(n > WIDE_KERNEL for n in layer.kernel_size[-2:])
    return not is_wide and prod(inputs.shape[1:5]) <= FAST_SINGLE


def _slabs(
    inputs: Tensor, outer: Tensor, kernel: int, padding: list[int]
) -> tuple[Tensor, Tensor, list[int]]:
    """Return scans of one row cut along their first axis into equal rows, with the voxels that each reads."""
    scans, depth, ends = len(inputs), outer.shape[3], inputs.shape[3]
    count = next((n for n in range(2, depth) if depth % n == 0), 2)
    if depth % count:  # a prime depth: the second half is filled up
        outer = functional.pad(outer, (*[0, 0] * (outer.dim() - 4), 0, 1))
    size = -(-depth // count)
    reads = size + kernel - 1
    shape = (scans * count, inputs.shape[2], reads, *inputs.shape[4:])
    layout = torch.channels_last_3d if len(shape) == 5 else torch.contiguous_format
    rows = torch.empty(shape, dtype=inputs.dtype, device=inputs.device, memory_format=layout)
    rows = torch.unflatten(rows, 0, (scans, count))
    for k in range(count):
        first = k * size - padding[0]
        low, high = max(first, 0), min(first + reads, ends)
        rows[:, k, :, : low - first] = 0
        rows[:, k, :, low - first : high - first] = inputs[:, 0, :, low:high]
        rows[:, k, :, high - first :] = 0
    made = torch.unflatten(outer[:, 0], 2, (count, size)).transpose(1, 2)
    return rows, made, [0, *padding[1:]]


def _gram_pays(layer: Any, inputs: Tensor, outer: Tensor) -> bool:
    """Return whether the norm by inner products of positions costs less than the gradient itself."""
    if not _is_plain(layer):
        return False
    rows, reads, makes = inputs.shape[1], inputs.shape[2], outer.shape[2]
    voxels = rows * prod(n + k - 1 for n, k in zip(outer.shape[3:], layer.kernel_size, strict=True))
    positions = rows * prod(outer.shape[3:])
    taps = prod(layer.kernel_size)
    gram = GRAM_START + voxels**2 * reads + positions**2 * (makes + taps)
    return gram < GRAM_SPEED * taps * reads * makes * (positions + 32)


def _gram_norm(layer: Any, inputs: Tensor, outer: Tensor) -> Tensor:
    """Return ‖weight gradient‖² (scans,) of a convolution of stride and dilation 1."""
    scans, rows = inputs.shape[:2]
    x, padding = _padded(layer, inputs.flatten(0, 1))
    x = functional.pad(x, [side for n in reversed(padding) for side in (n, n)])
    size, space = outer.shape[3:], x.shape[2:]
    voxels = torch.unflatten(x, 0, (scans, rows)).movedim(2, -1).flatten(1, -2)
    gram = (voxels @ voxels.transpose(1, 2)).reshape(scans, rows, *space, rows, *space)
    grown = len(space)
    patches = gram.new_zeros(scans, rows, *size, rows, *size)
    for taps in itertools.product(*(range(n) for n in layer.kernel_size)):
        shifted = gram
        for axis, (tap, length) in enumerate(zip(taps, size, strict=True)):
            shifted = shifted.narrow(2 + axis, tap, length).narrow(3 + grown + axis, tap, length)
        patches += shifted
    g = outer.movedim(2, -1).flatten(1, -2)
    weights = (g @ g.transpose(1, 2)).reshape(patches.shape)
    return (patches * weights).flatten(1).sum(1)
