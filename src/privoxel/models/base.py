"""What a model must offer to be audited, and what all networks here share.

A model maps volumes (scans, 1, x, y, z) to ages in years, one per scan, and is a chain of named layers
whose block outputs can be asked for. Layer names are the names of the submodules, so the parameters of
layer ``conv1`` are ``conv1.weight`` and ``conv1.bias``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple, cast, final

import torch
from torch import Tensor, nn

from privoxel.errors import ModelError

HEADS = ("paper", "scaled")
MEMORY_FORMATS = ("contiguous", "channels_last")
MAX_POOLINGS = 5
SMALLEST_MAP = 2  # voxels: instance norm of a single voxel is undefined
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@final
@dataclass(frozen=True)
class ModelSpec:
    """Which network, and its choices.

    ``width`` multiplies the numbers of channels (1 is the paper's). ``head`` is ``paper`` (a plain layer
    whose bias starts at the mean age) or ``scaled`` (mean age + ``scale`` years × a plain layer, for small
    cohorts). ``dropout`` is the rate before the output. ``axis`` is the axis that slice-mean cuts: 0 gives
    sagittal, 1 coronal, 2 axial slices.

    Raises:
        ModelError: listing every choice that cannot be used.
    """

    name: str = "cnn3d"
    width: float = 1.0
    head: str = "paper"
    scale: float = 70.0
    dropout: float = 0.5
    axis: int = 0

    def __post_init__(self) -> None:
        checks = (
            (self.width > 0, f"width needs a number above 0, got {self.width}"),
            (self.head in HEADS, f"head needs one of {', '.join(HEADS)}, got {self.head!r}"),
            (self.scale > 0, f"scale needs years above 0, got {self.scale}"),
            (0 <= self.dropout < 1, f"dropout needs a rate in [0, 1), got {self.dropout}"),
            (self.axis in (0, 1, 2), f"axis needs 0, 1 or 2, got {self.axis}"),
        )
        faults = [message for holds, message in checks if not holds]
        if faults:
            raise ModelError(f"Model {self.name!r}: {'; '.join(faults)}. Correct the model's settings.")


class AuditableModel(nn.Module, ABC):
    """A regression model that can be audited white-box.

    ``layers`` names the layers in order of the forward pass, the last being the output; ``first_conv``,
    ``last_conv`` and ``head_layers`` are those whose gradients the attacks read. ``poolings`` and
    ``map_shape`` (voxels or pixels before the last average pool) say what the input grid led to.
    ``fused = False`` swaps the fast norm-and-pool for the framework's own (needed for second derivatives).
    """

    layers: tuple[str, ...]
    first_conv: str
    last_conv: str
    head_layers: tuple[str, ...]
    embedded_by: str
    poolings: int
    map_shape: tuple[int, ...]
    fused: bool

    @abstractmethod
    def enter(self, volumes: Tensor) -> Tensor:
        """Return what the first layer reads of volumes (scans, 1, x, y, z)."""

    @abstractmethod
    def block(self, layer: str, maps: Tensor) -> Tensor:
        """Return the output of the block of ``layer`` (its norm, pool, ReLU included), scans first."""

    def forward(self, volumes: Tensor) -> Tensor:
        """Return the ages in years (scans,) that the model predicts for volumes (scans, 1, x, y, z)."""
        maps = self.enter(volumes)
        for layer in self.layers:
            maps = self.block(layer, maps)
        return maps.flatten()

    def entered(self, volumes: Tensor, layers: Sequence[str]) -> Tensor:
        """Return the block output of the last of ``layers``, the model's first ones, without a graph."""
        with torch.no_grad():
            maps = self.enter(volumes)
            for layer in layers:
                maps = self.block(layer, maps)
        return maps

    def left(self, maps: Tensor, layers: Sequence[str]) -> Tensor:
        """Return the ages (scans,) that follow from ``maps``, the block output of the last of ``layers``."""
        for layer in self.layers[len(layers) :]:
            maps = self.block(layer, maps)
        return maps.flatten()

    def activations(self, volumes: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return the block outputs (after norm, pool and ReLU) of the named layers, scans first.

        Raises:
            ModelError: if the model has no layer of such a name.
        """
        check_layers(self, layers)
        found: dict[str, Tensor] = {}
        maps = self.enter(volumes)
        for layer in self.layers:
            maps = self.block(layer, maps)
            if layer in layers:
                found[layer] = maps
            if len(found) == len(set(layers)):
                break
        return found

    @contextmanager
    def layer_outputs(self, layers: Sequence[str], found: dict[str, Tensor]) -> Iterator[None]:
        """Put the block outputs of the named layers into ``found`` when the model runs inside the block.

        Raises:
            ModelError: if the model has no layer of such a name.
        """
        check_layers(self, layers)
        plain = self.block

        def recorded(layer: str, maps: Tensor) -> Tensor:
            made = plain(layer, maps)
            if layer in layers:
                found[layer] = made.detach()
            return made

        self.block = recorded  # type: ignore[method-assign]
        try:
            yield
        finally:
            del self.block

    def tail(self, layer: str) -> "Tail":
        """Return a deep copy of the layers after the block of ``layer``, up to the pooled embedding.

        Raises:
            ModelError: if no layer of such a name comes before the embedding or makes it.
        """
        check_layers(self, (layer,))
        if self.layers.index(layer) > self.layers.index(self.embedded_by):
            raise ModelError(
                f"Model {type(self).__name__}: a tail needs a layer up to {self.embedded_by}, got {layer}. "
                "Choose an earlier layer."
            )
        return Tail(self, layer)


@final
class Tail(nn.Module):
    """Copies of a model's later layers: block output of ``layer`` in, pooled embedding (scans, 64) out."""

    def __init__(self, model: AuditableModel, layer: str) -> None:
        super().__init__()
        first = model.layers.index(layer) + 1
        last = model.layers.index(model.embedded_by) + 1
        self.kept = model.layers[first:last]
        self.net = deepcopy(model)
        for name in set(model.layers) - set(self.kept):
            delattr(self.net, name)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the embedding (scans, channels) of block outputs, scans first."""
        for layer in self.kept:
            maps = self.net.block(layer, maps)
        return maps.flatten(1)


class AgeHead(NamedTuple):
    """How a head was asked for: its kind, the mean training age and the scale, both in years."""

    kind: str
    mean_age: float
    scale: float


class AgeScale(nn.Module):
    """The last step of a model: the output layer's values to ages in years.

    The paper's head leaves them as they are (its bias starts at the mean age); the scaled head returns
    mean age + scale × value. Both numbers are buffers, so that a state dict restores the same function.
    """

    def __init__(self, head: AgeHead) -> None:
        super().__init__()
        self.scaled = head.kind == "scaled"
        if self.scaled:
            self.register_buffer("mean_age", torch.tensor(float(head.mean_age)))
            self.register_buffer("scale", torch.tensor(float(head.scale)))

    def forward(self, values: Tensor) -> Tensor:
        """Return ages in years, of the shape of ``values``."""
        if not self.scaled:
            return values
        return cast(Tensor, self.mean_age) + cast(Tensor, self.scale) * values


def start_at_mean_age(output: nn.Conv3d | nn.Linear, head: AgeHead) -> None:
    """Set the bias of the output layer so that the head's constant part is the mean training age."""
    if output.bias is not None:
        nn.init.constant_(output.bias, 0.0 if head.kind == "scaled" else head.mean_age)


def poolings_for(shape: Sequence[int]) -> int:
    """Return the largest number of 2× poolings (at most 5) that leaves 2 voxels on every axis.

    >>> poolings_for((91, 109, 91)), poolings_for((40, 48, 40)), poolings_for((27, 32, 27))
    (5, 4, 3)

    Raises:
        ModelError: if an axis has fewer than 2 voxels.
    """
    if min(shape) < SMALLEST_MAP:
        raise ModelError(
            f"The network needs at least {SMALLEST_MAP} voxels on every axis that it convolves, "
            f"got a grid of {' × '.join(map(str, shape))}. Use a finer grid or a larger field of view."
        )
    return max(p for p in range(MAX_POOLINGS + 1) if min(shape) >> p >= SMALLEST_MAP)


def channels(count: int, width: float) -> int:
    """Return a layer's number of channels at ``width``: at least one, the paper's at width 1."""
    return max(1, round(count * width))


def check_layers(model: AuditableModel, layers: Sequence[str]) -> None:
    """Raise ``ModelError`` naming every one of ``layers`` that ``model`` does not have."""
    unknown = [layer for layer in layers if layer not in model.layers]
    if unknown:
        raise ModelError(
            f"Model {type(model).__name__}: needs layers among {', '.join(model.layers)}, "
            f"got {', '.join(unknown)}. Name other layers."
        )


@final
@dataclass(frozen=True)
class Description:
    """What a model is, for manifests: learnable numbers, poolings, size of the last map, layer names."""

    parameters: int
    poolings: int
    map_shape: tuple[int, ...]
    layers: tuple[str, ...]


def describe(model: AuditableModel) -> Description:
    """Return what ``model`` is."""
    count = sum(parameter.numel() for parameter in model.parameters())
    return Description(count, model.poolings, model.map_shape, model.layers)


class Formatted(NamedTuple):
    """A model (converted in place) and volumes in one memory format."""

    model: nn.Module
    volumes: Tensor | None


def to_memory_format(model: nn.Module, volumes: Tensor | None, memory_format: str) -> Formatted:
    """Return ``model`` (converted in place) and ``volumes`` laid out in ``memory_format``.

    ``channels_last`` lays out 2-D and 3-D convolution weights with their channels innermost; results
    change by rounding only. On CPUs it makes a training step about twice as fast (``benchmarks/layers.py``).

    Raises:
        ModelError: for an unknown format.
    """
    if memory_format not in MEMORY_FORMATS:
        raise ModelError(
            f"memory_format needs one of {', '.join(MEMORY_FORMATS)}, got {memory_format!r}. Choose one."
        )
    for parameter in model.parameters():
        parameter.data = _formatted(parameter.data, memory_format)
    return Formatted(model, None if volumes is None else _formatted(volumes, memory_format))


def _formatted(values: Tensor, memory_format: str) -> Tensor:
    # Not contiguous(): it leaves the strides of single-channel tensors, whose layout is the same memory in
    # both formats, and those strides decide whether the first convolution takes its fast kernel.
    if memory_format == "channels_last" and values.dim() in CHANNELS_LAST:
        return values.to(memory_format=CHANNELS_LAST[values.dim()])
    return values.to(memory_format=torch.contiguous_format)
