"""The 2D-slice-mean of Gupta et al. 2021 (Fig. 6b, A.3): 998,625 parameters at full width.

One 2-D encoder reads every slice of a volume; the mean of the slice embeddings is what the head reads.

============  ===================================================  ========  =======================
layer         operations                                           channels  map for a 109 × 91 slice
============  ===================================================  ========  =======================
conv1         conv 3², instance norm, max-pool 2, ReLU             1 → 32    54 × 45
conv2         the same                                             → 64      27 × 22
conv3         the same                                             → 128     13 × 11
conv4         the same                                             → 256     6 × 5
conv5         the same                                             → 256     3 × 2
conv6         conv 1², instance norm, ReLU, average pool, dropout  → 64      1 × 1
conv7         conv 1²                                              → 32      1 × 1
hidden        mean over slices, linear, ReLU                       → 64
output        linear, age scale                                    → 1
============  ===================================================  ========  =======================

Slices run along the batch axis inside a block; block outputs are (scans, slices, channels, *map).
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from privoxel.models.base import (
    AgeHead,
    AgeScale,
    AuditableModel,
    ModelSpec,
    channels,
    poolings_for,
    start_at_mean_age,
)
from privoxel.models.blocks import norm_pool_relu

HIDDEN_WEIGHT_SD = 0.01
SCALED_OUTPUT = 0.1  # first predictions then lie within some years of the mean age


@final
class SliceMean(AuditableModel):
    """The paper's 2D-slice-mean along any axis; ``last_conv`` is conv 6, the layer the paper attacks."""

    layers = ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "conv7", "hidden", "output")
    first_conv = "conv1"
    last_conv = "conv6"
    head_layers = ("hidden", "output")
    embedded_by = "hidden"

    def __init__(self, spec: ModelSpec, grid_shape: Sequence[int], mean_age: float) -> None:
        super().__init__()
        plane = tuple(size for axis, size in enumerate(grid_shape) if axis != spec.axis)
        self.poolings = poolings_for(plane)
        self.map_shape = tuple(size >> self.poolings for size in plane)
        self.axis = spec.axis
        self.fused = True
        a, b, c, d, e, f, g, h = (channels(n, spec.width) for n in (32, 64, 128, 256, 256, 64, 32, 64))
        self.conv1 = nn.Conv2d(1, a, 3, padding=1)
        self.conv2 = nn.Conv2d(a, b, 3, padding=1)
        self.conv3 = nn.Conv2d(b, c, 3, padding=1)
        self.conv4 = nn.Conv2d(c, d, 3, padding=1)
        self.conv5 = nn.Conv2d(d, e, 3, padding=1)
        self.conv6 = nn.Conv2d(e, f, 1)
        self.dropout = nn.Dropout2d(spec.dropout)
        self.conv7 = nn.Conv2d(f, g, 1)
        self.hidden = nn.Linear(g, h)
        self.output = nn.Linear(h, 1)
        head = AgeHead(spec.head, mean_age, spec.scale)
        self.age = AgeScale(head)
        self._initialise(head)

    def _initialise(self, head: AgeHead) -> None:
        """Set the paper's initial weights (its code, not its text, names them).

        The scaled head has Kaiming's in its hidden layer too, and smaller ones behind it: with the paper's
        every hidden unit has the same small value for all scans, and Adam can switch all of them off before
        anything is learned.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for layer in self.layers[:-1]:
            nn.init.zeros_(self.get_parameter(f"{layer}.bias"))
        if head.kind == "scaled":
            nn.init.kaiming_normal_(self.hidden.weight)
            with torch.no_grad():
                self.output.weight.mul_(SCALED_OUTPUT)
        else:
            nn.init.normal_(self.hidden.weight, 0.0, HIDDEN_WEIGHT_SD)
        start_at_mean_age(self.output, head)

    def enter(self, volumes: Tensor) -> Tensor:
        """Return the slices (scans, slices, 1, *plane) of volumes (scans, 1, x, y, z)."""
        return volumes.squeeze(1).movedim(self.axis + 1, 1).unsqueeze(2)

    def block(self, layer: str, maps: Tensor) -> Tensor:
        """Return the block output of ``layer``: (scans, slices, channels, *map), or (scans, values)."""
        if layer == "output":
            return self.age(self.output(maps))
        if layer == "hidden":
            return torch.relu(self.hidden(maps.flatten(2).mean(1)))
        slices = self.get_submodule(layer)(maps.flatten(0, 1))
        if layer != "conv7":
            slices = self._encode(layer, slices)
        return torch.unflatten(slices, 0, maps.shape[:2])

    def _encode(self, layer: str, slices: Tensor) -> Tensor:
        """Return what follows convolutions 1 to 6 in their blocks."""
        pool = self.layers.index(layer) < self.poolings
        slices = norm_pool_relu(slices, pool=pool, fused=self.fused)
        if layer != "conv6":
            return slices
        return self.dropout(slices.mean((2, 3), keepdim=True))
