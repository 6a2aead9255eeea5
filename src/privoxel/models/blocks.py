"""One block of the networks after its convolution: instance norm, optional 2× max-pool, ReLU.

Instance norm without affine terms is, per scan and channel, the increasing map z = (x - m) / s, so
max-pool(norm(x)) = (max-pool(x) - m) / s: the norm is taken of the pooled map, an eighth of the voxels
(a quarter of the pixels), with the statistics of the whole map. ``fused`` does that with a hand-written
gradient; ``plain`` is the same function from the framework's parts. The two agree to rounding.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from privoxel.errors import ModelError
from privoxel.models.base import CHANNELS_LAST

EPSILON = 1e-5  # the framework's default, which the paper's code uses
SLAB_BYTES = 4 * 2**20  # what stays in a core's cache
HALF = (torch.float16, torch.bfloat16)


def norm_pool_relu(maps: Tensor, *, pool: bool, fused: bool = True) -> Tensor:
    """Return instance norm → max-pool 2 (if ``pool``) → ReLU of feature maps.

    Args:
        maps: (batch, channels, *space) with two or three axes of space.
        pool: whether the block halves its map (odd sizes drop the last voxel).
        fused: take the norm after the pool (same values, first derivatives only).

    Returns:
        (batch, channels, *space or space // 2); float32 where ``maps`` is of half precision.
    """
    maps = maps.float() if maps.dtype in HALF else maps
    if not pool:
        return functional.relu(functional.instance_norm(maps, eps=EPSILON))
    if fused:
        return functional.relu(_NormalisedPool.apply(maps)[0])  # type: ignore[no-untyped-call]
    return functional.relu(_max_pool(functional.instance_norm(maps, eps=EPSILON))[0])


def _max_pool(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the 2× max-pool over all axes of space and the positions of the maxima."""
    pool = functional.max_pool3d if maps.dim() == 5 else functional.max_pool2d
    pooled, positions = pool(maps, 2, return_indices=True)
    return pooled, positions


def _spread(gradient: Tensor, maps: Tensor, positions: Tensor) -> Tensor:
    """Return the gradient with respect to ``maps`` of their 2× max-pool."""
    axes = maps.dim() - 2
    backward = (
        torch.ops.aten.max_pool3d_with_indices_backward
        if axes == 3
        else torch.ops.aten.max_pool2d_with_indices_backward
    )
    spread: Tensor = backward(
        gradient, maps, [2] * axes, [2] * axes, [0] * axes, [1] * axes, False, positions
    )
    return spread


def _voxels(maps: Tensor) -> int:
    return maps.shape[2:].numel()


class _Lines(NamedTuple):
    """Maps as rows of a memory line each, and values per channel tiled to fit them.

    Where channels lie innermost, operations between a map and a value per channel run over a few numbers at a
    time and are several times as slow as over whole lines of voxels × channels. ``axis`` is the first of the
    axes of space; other layouts stay as they are.
    """

    maps: Tensor
    values: tuple[Tensor, ...]
    axis: int

    def back(self, lines: Tensor, like: Tensor) -> Tensor:
        """Return ``lines`` in the axes of ``like``."""
        if self.axis == 2:
            return lines
        return torch.unflatten(lines, -1, (like.shape[-1], like.shape[1])).movedim(-1, 1)


def _lines(maps: Tensor, *values: Tensor) -> _Lines:
    is_last = maps.is_contiguous(memory_format=CHANNELS_LAST[maps.dim()]) and not maps.is_contiguous()
    if not is_last:
        return _Lines(maps, values, 2)
    shape = (len(maps), *[1] * (maps.dim() - 3), maps.shape[-1], maps.shape[1])
    tiled = tuple(value.movedim(1, -1).expand(shape).flatten(-2) for value in values)
    return _Lines(maps.movedim(1, -1).flatten(-2), tiled, 1)


def _squared_deviations(maps: Tensor, mean: Tensor) -> Tensor:
    """Return Σ(x - m)² over all axes of space, kept as axes of one.

    Deviations first: E[x²] - m² would be a pass cheaper and loses digits where |m| >> s. On CPUs slab by
    slab, so that no second map is written to memory.
    """
    lines, (centre,), axis = _lines(maps, mean)
    over = tuple(range(axis, lines.dim() - (axis == 1)))
    slabs = max(1, maps.numel() * maps.element_size() // SLAB_BYTES) if maps.device.type == "cpu" else 1
    parts = torch.split(lines, -(-lines.shape[axis] // slabs), dim=axis)
    total = torch.stack([(part - centre).square_().sum(over) for part in parts]).sum(0)
    if axis == 1:
        total = torch.unflatten(total, 1, (maps.shape[-1], maps.shape[1])).sum(1)
    return total.reshape(mean.shape)


def _folded(arguments: tuple[Tensor, ...], in_dims: tuple[int | None, ...], size: int) -> tuple[Tensor, ...]:
    """Return ``arguments`` with the axis that ``vmap`` runs over folded into their batch axis."""
    mapped = (
        argument.expand(size, *argument.shape) if axis is None else argument.movedim(axis, 0)
        for argument, axis in zip(arguments, in_dims, strict=True)
    )
    return tuple(argument.flatten(0, 1) for argument in mapped)


def _unfolded(arguments: tuple[Tensor, ...], size: int) -> tuple[Tensor, ...]:
    """Return ``arguments`` with the mapped axis first again."""
    return tuple(torch.unflatten(argument, 0, (size, -1)) for argument in arguments)


class _NormalisedPool(torch.autograd.Function):
    """Instance norm then 2× max-pool, computed in the other order."""

    @staticmethod
    def forward(maps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        space = tuple(range(2, maps.dim()))
        mean = maps.mean(space, keepdim=True)
        rate = torch.rsqrt(_squared_deviations(maps, mean) / _voxels(maps) + EPSILON)
        pooled, positions = _max_pool(maps)
        lines = _lines(pooled, mean, rate)
        centre, scale = lines.values
        return lines.back((lines.maps - centre).mul_(scale), pooled), mean, rate, positions

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(inputs[0], *output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> Tensor:
        return _NormalisedPoolGradient.apply(gradient, *ctx.saved_tensors)  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Tensor) -> Any:
        """Fold the mapped axis into the batch: every map is treated by itself anyway."""
        outputs = _NormalisedPool.apply(*_folded(arguments, in_dims, info.batch_size))  # type: ignore[no-untyped-call]
        return _unfolded(outputs, info.batch_size), (0,) * len(outputs)


class _NormalisedPoolGradient(torch.autograd.Function):
    """First derivative of ``_NormalisedPool``; refuses a second one instead of getting it wrong.

    With z = r·(p - m), m the mean, r = (v + ε)^-½ and v the variance of the N voxels of a map x, and
    g = dL/dz: dL/dx = unpool(r·g) + a·(x - m) - r·Σg / N with a = -r²·Σgz / N.
    """

    @staticmethod
    def forward(
        gradient: Tensor, maps: Tensor, normed: Tensor, mean: Tensor, rate: Tensor, positions: Tensor
    ) -> Tensor:
        space = tuple(range(2, maps.dim()))
        slope = -rate.square() * (gradient * normed).sum(space, keepdim=True) / _voxels(maps)
        shift = -rate * gradient.sum(space, keepdim=True) / _voxels(maps) - slope * mean
        spread = _spread(gradient * rate, maps, positions)
        read, made = _lines(maps, slope, shift), _lines(spread, slope, shift)
        if read.axis != made.axis:
            return spread.addcmul_(maps, slope.expand_as(maps)).add_(shift)
        tilt, offset = made.values
        made.maps.addcmul_(read.maps, tilt.expand_as(made.maps)).add_(offset)
        return spread

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Keep nothing: there is no second derivative."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Tensor) -> Any:
        """Fold the mapped axis into the batch."""
        spread = _NormalisedPoolGradient.apply(*_folded(arguments, in_dims, info.batch_size))  # type: ignore[no-untyped-call]
        return _unfolded((spread,), info.batch_size)[0], 0

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:  # noqa: ARG004
        raise ModelError(
            "Second derivatives: the fused norm and pool has first derivatives only, "
            "got a backward pass through its gradient. Set model.fused = False."
        )
