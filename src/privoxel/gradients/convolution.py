"""Per-scan weight gradients of convolutions of one to three axes, plain and transposed.

Large maps: one weight-gradient kernel of the framework per scan. Small maps: the squared norm of
Σ_p g_p ⊗ a_p (a_p the patch that position p reads) is Σ_pq (g_p·g_q)(a_p·a_q), and a_p·a_q is a sum of
shifted inner products of voxels, so neither patches nor gradients are formed.
"""

import itertools
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Gradients = dict[str, Tensor]
GRAM_SPEED = 0.5  # matrix products and shifted sums run at about half the speed of the weight-gradient kernel
SLAB_DEPTH = 4


def conv_gradients(layer: Any, inputs: Tensor, outer: Tensor) -> Gradients:
    """Return the gradients of weight and bias, (scans, *shape)."""
    found = [_of_scan(layer, x, g) for x, g in zip(inputs, outer, strict=True)]
    return {local: torch.stack([gradients[local] for gradients in found]) for local in found[0]}


def conv_squared_norms(layer: Any, inputs: Tensor, outer: Tensor) -> Gradients:
    """Return the squared norms (scans,) of the gradients of weight and bias."""
    if not _gram_pays(layer, inputs, outer):
        squares = [_squares(_of_scan(layer, x, g)) for x, g in zip(inputs, outer, strict=True)]
        return {local: torch.stack([of_scan[local] for of_scan in squares]) for local in squares[0]}
    found = {"weight": _gram_norm(layer, inputs, outer)}
    if layer.bias is None:
        return found
    axes = (1, *range(3, outer.dim()))
    return found | {"bias": outer.sum(axes).square().sum(1)}


def _squares(gradients: Gradients) -> Gradients:
    return {local: gradient.square().sum() for local, gradient in gradients.items()}


def _of_scan(layer: Any, x: Tensor, g: Tensor) -> Gradients:
    """Return the weight and bias gradient of one scan's rows (rows, channels, *map)."""
    x, padding = _padded(layer, x)
    if _in_slabs(layer, x, g):
        x, g, padding = _slabs(x, g, layer.kernel_size[0], padding)
    made = [layer.out_channels]
    mask = [False, True, layer.bias is not None]
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    _, weight, bias = torch.ops.aten.convolution_backward(
        g, x, layer.weight, made, layer.stride, padding, layer.dilation,
        transposed, layer.output_padding, layer.groups, mask,
    )  # fmt: skip
    return {"weight": weight} if bias is None else {"weight": weight, "bias": bias}


def _padded(layer: Any, x: Tensor) -> tuple[Tensor, list[int]]:
    """Return the input and its remaining symmetric zero padding."""
    if layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return x, list(layer.padding)
    around = layer._reversed_padding_repeated_twice
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return functional.pad(x, around, mode=mode), [0] * (x.dim() - 2)


def _in_slabs(layer: Any, x: Tensor, g: Tensor) -> bool:
    """Return whether one row should be cut in two: some CPU kernels are far slower for a single row."""
    plain = all(n == 1 for n in (*layer.stride, *layer.dilation, layer.groups))
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    return x.device.type == "cpu" and plain and not transposed and len(x) == 1 and g.shape[2] >= SLAB_DEPTH


def _slabs(x: Tensor, g: Tensor, kernel: int, padding: list[int]) -> tuple[Tensor, Tensor, list[int]]:
    """Return one row as two rows of half its depth, with the voxels that both halves read."""
    half = -(-g.shape[2] // 2)
    depth = half + kernel - 1
    halves = x.new_zeros((2, x.shape[1], depth, *x.shape[3:]))
    outer = g.new_zeros((2, g.shape[1], half, *g.shape[3:]))
    if x.dim() == 5:
        halves = halves.to(memory_format=torch.channels_last_3d)
        outer = outer.to(memory_format=torch.channels_last_3d)
    pad = padding[0]
    for k in range(2):
        first = k * half - pad
        low, high = max(first, 0), min(first + depth, x.shape[2])
        halves[k, :, low - first : high - first] = x[0, :, low:high]
        rows = g[0, :, k * half : (k + 1) * half]
        outer[k, :, : rows.shape[1]] = rows
    return halves, outer, [0, *padding[1:]]


def _gram_pays(layer: Any, inputs: Tensor, outer: Tensor) -> bool:
    """Return whether the norm by inner products of positions costs less than the gradient itself."""
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    if transposed or any(n != 1 for n in (*layer.stride, *layer.dilation, layer.groups)):
        return False
    rows, reads, makes = inputs.shape[1], inputs.shape[2], outer.shape[2]
    voxels = rows * prod(n + k - 1 for n, k in zip(outer.shape[3:], layer.kernel_size, strict=True))
    positions = rows * prod(outer.shape[3:])
    taps = prod(layer.kernel_size)
    gram = voxels**2 * reads + positions**2 * (makes + taps)
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
