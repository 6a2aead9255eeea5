"""The two networks of Gupta et al. 2021 as plain lists of framework layers, with our weights copied in."""

import torch
from torch import Tensor, nn

from privoxel.models.base import AuditableModel


def _copy(layer: nn.Module, source: nn.Module) -> nn.Module:
    layer.load_state_dict(source.state_dict())
    return layer.double()


def cnn3d_by_hand(model: AuditableModel, volumes: Tensor, poolings: int) -> Tensor:
    """Return the 3D-CNN's ages in evaluation mode."""
    steps: list[nn.Module] = []
    for number, name in enumerate(("conv1", "conv2", "conv3", "conv4", "conv5")):
        ours = model.get_submodule(name)
        conv = nn.Conv3d(ours.in_channels, ours.out_channels, 3, stride=1, padding=1)
        steps += [_copy(conv, ours), nn.InstanceNorm3d(ours.out_channels)]
        steps += [nn.MaxPool3d(2, stride=2)] if number < poolings else []
        steps += [nn.ReLU()]
    six = model.get_submodule("conv6")
    steps += [
        _copy(nn.Conv3d(six.in_channels, six.out_channels, 1), six),
        nn.InstanceNorm3d(six.out_channels),
    ]
    steps += [nn.ReLU(), nn.AdaptiveAvgPool3d(1)]
    out = model.get_submodule("output")
    steps += [_copy(nn.Conv3d(out.in_channels, 1, 1), out)]
    with torch.no_grad():
        return nn.Sequential(*steps)(volumes).flatten()


def slice_mean_by_hand(model: AuditableModel, volume: Tensor, poolings: int, axis: int) -> Tensor:
    """Return the 2D-slice-mean's age of one volume (x, y, z), encoding one slice after another."""
    embeddings = [_slice_embedding(model, piece, poolings) for piece in volume.unbind(axis)]
    mean = sum(embeddings) / len(embeddings)
    hidden, output = model.get_submodule("hidden"), model.get_submodule("output")
    value = torch.clamp(hidden.weight @ mean + hidden.bias, min=0)
    return (output.weight @ value + output.bias)[0]


def _slice_embedding(model: AuditableModel, piece: Tensor, poolings: int) -> Tensor:
    maps = piece[None, None]
    for number in range(1, 7):
        ours = model.get_submodule(f"conv{number}")
        size = 3 if number < 6 else 1
        conv = _copy(nn.Conv2d(ours.in_channels, ours.out_channels, size, padding=size // 2), ours)
        maps = nn.InstanceNorm2d(ours.out_channels)(conv(maps))
        if number <= min(poolings, 5):
            maps = nn.MaxPool2d(2, stride=2)(maps)
        maps = nn.ReLU()(maps)
    seven = model.get_submodule("conv7")
    return seven.weight.flatten(1) @ maps.mean((2, 3))[0] + seven.bias
