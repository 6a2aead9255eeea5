"""One block of the networks after its convolution: instance norm, optional 2× max-pool, ReLU.

Instance norm without affine terms is, per scan and channel, the increasing map z = (x - m) / s, so
max-pool(norm(x)) = (max-pool(x) - m) / s: the norm is taken of the pooled map, an eighth of the voxels
(a quarter of the pixels), with the statistics of the whole map. ``fused`` does that with a hand-written
gradient; ``plain`` is the same function from the framework's parts. The two agree to rounding.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from privoxel.errors import ModelError

EPSILON = 1e-5  # the framework's default, which the paper's code uses
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
    def forward(maps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        space = tuple(range(2, maps.dim()))
        mean = maps.mean(space, keepdim=True)
        # Deviations first: E[x²] - m² would be a pass cheaper and loses digits where |m| >> s.
        deviation = torch.linalg.vector_norm(maps - mean, dim=space, keepdim=True)
        rate = torch.rsqrt(deviation.square() / _voxels(maps) + EPSILON)
        pooled, positions = _max_pool(maps)
        centred = pooled - mean
        return centred * rate, mean, rate, centred, positions

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(inputs[0], *output[1:])

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
    g = dL/dz: dL/dx = unpool(r·g) + a·(x - m) - r·Σg / N with a = -r³·Σg(p - m) / N.
    """

    @staticmethod
    def forward(
        gradient: Tensor, maps: Tensor, mean: Tensor, rate: Tensor, centred: Tensor, positions: Tensor
    ) -> Tensor:
        space = tuple(range(2, maps.dim()))
        slope = -(rate**3) * (gradient * centred).sum(space, keepdim=True) / _voxels(maps)
        shift = -rate * gradient.sum(space, keepdim=True) / _voxels(maps) - slope * mean
        spread = _spread(gradient * rate, maps, positions)
        return spread.addcmul_(maps, slope.expand_as(maps)).add_(shift)

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
