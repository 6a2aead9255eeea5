"""The 3D-CNN of Gupta et al. 2021 (Fig. 6a, A.3): 2,948,801 parameters at full width.

============  ==========================================  ========  =============================
layer         operations                                  channels  map for a 91 × 109 × 91 grid
============  ==========================================  ========  =============================
conv1         conv 3³, instance norm, max-pool 2, ReLU    1 → 32    45 × 54 × 45
conv2         the same                                    → 64      22 × 27 × 22
conv3         the same                                    → 128     11 × 13 × 11
conv4         the same                                    → 256     5 × 6 × 5
conv5         the same                                    → 256     2 × 3 × 2
conv6         conv 1³, instance norm, ReLU, average pool  → 64      1 × 1 × 1
output        dropout, conv 1³, age scale                 → 1
============  ==========================================  ========  =============================

On smaller grids the last of the blocks 1 to 5 do not pool, so that at least 2 voxels remain on every axis,
and the average is taken over the whole remaining map.
"""

from collections.abc import Sequence
from typing import final

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


@final
class CNN3D(AuditableModel):
    """The paper's 3D-CNN for any grid of at least 2 voxels an axis."""

    layers = ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "output")
    first_conv = "conv1"
    last_conv = "conv6"
    head_layers = ("output",)
    embedded_by = "conv6"

    def __init__(self, spec: ModelSpec, grid_shape: Sequence[int], mean_age: float) -> None:
        super().__init__()
        self.poolings = poolings_for(grid_shape)
        self.map_shape = tuple(size >> self.poolings for size in grid_shape)
        self.fused = True
        a, b, c, d, e, f = (channels(count, spec.width) for count in (32, 64, 128, 256, 256, 64))
        self.conv1 = nn.Conv3d(1, a, 3, padding=1)
        self.conv2 = nn.Conv3d(a, b, 3, padding=1)
        self.conv3 = nn.Conv3d(b, c, 3, padding=1)
        self.conv4 = nn.Conv3d(c, d, 3, padding=1)
        self.conv5 = nn.Conv3d(d, e, 3, padding=1)
        self.conv6 = nn.Conv3d(e, f, 1)
        self.dropout = nn.Dropout3d(spec.dropout)
        self.output = nn.Conv3d(f, 1, 1)
        head = AgeHead(spec.head, mean_age, spec.scale)
        self.age = AgeScale(head)
        start_at_mean_age(self.output, head)

    def enter(self, volumes: Tensor) -> Tensor:
        """Return the volumes (scans, 1, x, y, z) as they are."""
        return volumes

    def block(self, layer: str, maps: Tensor) -> Tensor:
        """Return the block output of ``layer``: (scans, channels, *map), or ages (scans, 1)."""
        if layer == "output":
            return self.age(self.output(self.dropout(maps)).flatten(1))
        number = self.layers.index(layer)
        maps = self.get_submodule(layer)(maps)
        maps = norm_pool_relu(maps, pool=number < self.poolings, fused=self.fused)
        return maps.mean((2, 3, 4), keepdim=True) if layer == "conv6" else maps
