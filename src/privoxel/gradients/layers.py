"""Per-scan weight gradients of the common layers, from what went in and the gradient of what came out.

Every function takes the layer, its input and output gradient as (scans, rows, *the layer's own axes) -
a scan may fill several rows of a layer's batch - and returns gradients (scans, *shape) by the name of the
layer's parameter. ``squared_norms`` gives their squared L2 norms without forming them where that is cheaper.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from privoxel.gradients.convolution import conv_gradients, conv_squared_norms
from privoxel.gradients.squares import squared_norms, squared_norms_by_name

Gradients = dict[str, Tensor]
Kernel = Callable[[Any, Tensor, Tensor], Gradients]


def linear_gradients(layer: nn.Linear, inputs: Tensor, outer: Tensor) -> Gradients:
    """Return the gradients of a linear layer over any axes between scans and features."""
    x, g = inputs.flatten(1, -2), outer.flatten(1, -2)
    found = {"weight": g.transpose(1, 2) @ x}
    return found if layer.bias is None else found | {"bias": g.sum(1)}


def linear_squared_norms(layer: nn.Linear, inputs: Tensor, outer: Tensor) -> Gradients:
    """Return squared norms; ‖Σ g xᵀ‖² = Σ (x·x')(g·g') where there are few positions."""
    x, g = inputs.flatten(1, -2), outer.flatten(1, -2)
    positions, read, made = x.shape[1], x.shape[2], g.shape[2]
    if positions * (read + made) >= read * made:
        return squared_norms_by_name(linear_gradients(layer, inputs, outer))
    found = {"weight": _gram_product(x, g)}
    return found if layer.bias is None else found | {"bias": squared_norms(g.sum(1))}


def _gram_product(x: Tensor, g: Tensor) -> Tensor:
    return ((x @ x.transpose(1, 2)) * (g @ g.transpose(1, 2))).sum((1, 2))


def affine_gradients(layer: Any, inputs: Tensor, outer: Tensor) -> Gradients:
    """Return the gradients of a normalisation's weight and bias (batch norm with its running statistics)."""
    shape = layer.weight.shape
    channels = () if isinstance(layer, nn.LayerNorm) else (2,)
    product = outer * _normalised(layer, inputs)
    kept = channels or tuple(range(outer.dim() - len(shape), outer.dim()))
    summed = tuple(axis for axis in range(1, outer.dim()) if axis not in kept)
    found = {"weight": product.sum(summed)}
    return found if layer.bias is None else found | {"bias": outer.sum(summed)}


def _normalised(layer: Any, inputs: Tensor) -> Tensor:
    flat = inputs.flatten(0, 1)
    if isinstance(layer, nn.LayerNorm):
        normed = functional.layer_norm(flat, layer.normalized_shape, eps=layer.eps)
    elif isinstance(layer, nn.GroupNorm):
        normed = functional.group_norm(flat, layer.num_groups, eps=layer.eps)
    elif layer.running_mean is not None:
        normed = functional.batch_norm(flat, layer.running_mean, layer.running_var, eps=layer.eps)
    else:
        normed = functional.instance_norm(flat, eps=layer.eps)
    return torch.unflatten(normed, 0, inputs.shape[:2])


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
KERNELS: Mapping[type[nn.Module], Kernel] = MappingProxyType(
    {nn.Linear: linear_gradients}
    | dict.fromkeys(CONVOLUTIONS, conv_gradients)
    | dict.fromkeys((nn.LayerNorm, nn.GroupNorm, *BATCH_NORMS, *INSTANCE_NORMS), affine_gradients)
)
NORMS: Mapping[type[nn.Module], Kernel] = MappingProxyType(
    {nn.Linear: linear_squared_norms} | dict.fromkeys(CONVOLUTIONS, conv_squared_norms)
)


def gradients_of(layer: nn.Module, inputs: Tensor, outer: Tensor) -> Gradients:
    """Return the gradients of a known layer's parameters, (scans, *shape) by name."""
    return KERNELS[type(layer)](layer, inputs, outer)


def squared_norms_of(layer: nn.Module, inputs: Tensor, outer: Tensor) -> Gradients:
    """Return the squared norms (scans,) of a known layer's gradients, by name."""
    if type(layer) in NORMS:
        return NORMS[type(layer)](layer, inputs, outer)
    return squared_norms_by_name(gradients_of(layer, inputs, outer))


def is_known(layer: nn.Module) -> bool:
    """Return whether the layer has a kernel of its own."""
    return type(layer) in KERNELS
