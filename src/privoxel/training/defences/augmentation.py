"""Augmentation: whenever a scan is shown it is moved a little and its intensities are changed a little.

Pose: a turn about each axis (uniform, at most ``degrees``) and a shift along each (uniform, at most ``mm``),
trilinear, edges repeated. Intensity, on what lies above the volume's minimum v: v exp(g + g·u), a gain whose
logarithm is linear over the volume (u from −1 to 1 along each axis, all four g normal); max (v / max)^γ with
normal log γ; and normal noise. Draws depend on the run's seed, the update and the scan alone.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from privoxel.arrays import FloatArray
from privoxel.cohort.base import ScanId
from privoxel.defence_config import AugmentationConfig
from privoxel.seeding import Streams
from privoxel.training.batch import Batch


class Draw(NamedTuple):
    """What happens to one scan: angles (rad), shifts (voxels), log gain and its slopes, log γ, and noise."""

    angles: FloatArray
    shift: FloatArray
    gain: FloatArray
    gamma: float
    noise: np.random.Generator


@final
@dataclass(frozen=True)
class Augmentation:
    """Changes every scan of a batch by draws of its own."""

    settings: AugmentationConfig
    voxel_mm: float
    streams: Streams

    def draw(self, moment: str, scan: ScanId) -> Draw:
        """Return what happens to ``scan`` at ``moment``."""
        settings = self.settings
        rng = self.streams.generator(f"{moment}/{scan}")
        return Draw(
            np.radians(settings.degrees) * rng.uniform(-1, 1, 3),
            settings.mm / self.voxel_mm * rng.uniform(-1, 1, 3),
            settings.gain * rng.standard_normal(4),
            settings.gamma * float(rng.standard_normal()),
            rng,
        )

    def __call__(self, batch: Batch) -> Batch:
        """Return ``batch`` with changed volumes."""
        draws = [self.draw(batch.moment, scan) for scan in batch.scans]
        volumes = batch.volumes
        if not len(volumes):
            return batch
        if self.settings.degrees or self.settings.mm:
            angles = np.stack([draw.angles for draw in draws])
            volumes = moved(volumes, angles, np.stack([draw.shift for draw in draws]))
        if self.settings.gain or self.settings.gamma:
            gammas = np.array([draw.gamma for draw in draws])
            volumes = recoloured(volumes, np.stack([draw.gain for draw in draws]), gammas)
        if self.settings.noise:
            spread = volumes.flatten(1).std(dim=1, correction=0).reshape(-1, 1, 1, 1, 1)
            noise = [draw.noise.standard_normal(volumes.shape[1:], dtype=np.float32) for draw in draws]
            volumes = volumes + self.settings.noise * spread * torch.from_numpy(np.stack(noise)).to(volumes)
        return replace(batch, volumes=volumes)


def rotations(angles: FloatArray) -> FloatArray:
    """Return matrices (scans, 3, 3) that turn about x, then y, then z by ``angles`` (scans, 3), radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles).T, np.sin(angles).T
    one, zero = np.ones_like(cx), np.zeros_like(cx)
    about_x = np.array([[one, zero, zero], [zero, cx, -sx], [zero, sx, cx]])
    about_y = np.array([[cy, zero, sy], [zero, one, zero], [-sy, zero, cy]])
    about_z = np.array([[cz, -sz, zero], [sz, cz, zero], [zero, zero, one]])
    return np.einsum("abn,bcn,cdn->nad", about_z, about_y, about_x)


def moved(volumes: Tensor, angles: FloatArray, shift: FloatArray) -> Tensor:
    """Return volumes (scans, 1, x, y, z) whose voxel p shows what was at R (p − c) + c + shift.

    R turns by ``angles`` (scans, 3), radians, about the middle c; ``shift`` (scans, 3) is in voxels.
    """
    half = (np.array(volumes.shape[2:]) - 1) / 2.0
    # grid_sample counts axes from the last, each from −1 to 1: a voxel is 1 / half long there
    matrix = rotations(angles) * (half[None, None, :] / half[None, :, None])
    theta = np.concatenate([matrix[:, ::-1, ::-1], (shift / half)[:, ::-1, None]], axis=2)
    where = functional.affine_grid(
        torch.from_numpy(theta.copy()).to(volumes), list(volumes.shape), align_corners=True
    )
    return functional.grid_sample(volumes, where, padding_mode="border", align_corners=True)


def recoloured(volumes: Tensor, gain: FloatArray, gamma: FloatArray) -> Tensor:
    """Return volumes (scans, 1, x, y, z) after a gain that varies over the volume, and a power.

    ``gain`` (scans, 4) is the log gain in the middle and its slopes along x, y and z to the edge; ``gamma``
    (scans,) the log exponent.
    """
    lines = [torch.linspace(-1, 1, size, dtype=volumes.dtype).to(volumes) for size in volumes.shape[2:]]
    x, y, z = torch.meshgrid(*lines, indexing="ij")
    basis = torch.stack([torch.ones_like(x), x, y, z])
    field = torch.einsum("nk,kxyz->nxyz", torch.from_numpy(gain).to(volumes), basis).unsqueeze(1)
    low = volumes.amin((2, 3, 4), keepdim=True)
    above = (volumes - low) * field.exp()
    top = above.amax((2, 3, 4), keepdim=True).clamp_min(torch.finfo(above.dtype).tiny)
    power = torch.from_numpy(np.exp(gamma)).to(volumes).reshape(-1, 1, 1, 1, 1)
    return low + top * (above / top) ** power
