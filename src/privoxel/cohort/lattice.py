"""Regular lattices in world millimetres, and trilinear sampling on them.

The sampler is one ``grid_sample`` of torch on a batch of one, which runs on a single thread whatever
``torch.set_num_threads`` says: the result does not depend on the number of threads.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch.nn import functional

from privoxel.arrays import Float32Array


@final
@dataclass(frozen=True)
class Lattice:
    """Points ``origin_mm + spacing_mm × index``, ``shape`` of them on each axis."""

    origin_mm: tuple[float, float, float]
    spacing_mm: float
    shape: tuple[int, int, int]

    def axis(self, k: int) -> Float32Array:
        """Return the coordinates along axis ``k``, in mm."""
        return (self.origin_mm[k] + self.spacing_mm * np.arange(self.shape[k])).astype(np.float32)

    def points(self) -> Float32Array:
        """Return the world coordinates of all points in C order: (3, points), mm."""
        return np.stack(np.meshgrid(*(self.axis(k) for k in range(3)), indexing="ij")).reshape(3, -1)

    def sample(self, channels: Float32Array, points: Float32Array) -> Float32Array:
        """Return ``channels`` (c, x, y, z), given on this lattice, at ``points`` (3, n) in mm: (c, n).

        Trilinear; beyond the lattice the value at its face.
        """
        grid = np.empty((points.shape[1], 3), dtype=np.float32)
        for k in range(3):  # grid_sample names the last axis first
            scale = np.float32(2 / (self.spacing_mm * (self.shape[k] - 1)))
            np.add(
                points[k] * scale, np.float32(-1) - scale * np.float32(self.origin_mm[k]), out=grid[:, 2 - k]
            )
        sampled = functional.grid_sample(
            torch.from_numpy(channels)[None],
            torch.from_numpy(grid)[None, None, None],
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )
        return sampled.numpy().reshape(len(channels), points.shape[1])
