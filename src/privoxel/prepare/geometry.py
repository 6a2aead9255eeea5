"""Affine maps of world millimetres (RAS+) as 4 × 4 matrices: making, changing and comparing them.

A map of a registration takes a point of the template to the same place of the scan, as a resampler needs it.
"""

from typing import NamedTuple

import numpy as np

from privoxel.arrays import BoolArray, FloatArray

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Between the RAS+ world of NIfTI and the LPS+ world of ITK, both ways."""


class Distances(NamedTuple):
    """How far apart two maps put the same points, mm."""

    mean: float
    largest: float


def moved(points: FloatArray, matrix: FloatArray) -> FloatArray:
    """Return points (n × 3, mm) where ``matrix`` takes them."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def affine_about(linear: FloatArray, centre: FloatArray, shift: FloatArray) -> FloatArray:
    """Return x ↦ linear (x − centre) + centre + shift as 4 × 4."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre + shift - linear @ centre
    return matrix


def rotation(degrees: tuple[float, float, float]) -> FloatArray:
    """Return the 3 × 3 rotation about x (pitch), then y (roll), then z (yaw); right-handed."""
    a, b, c = np.radians(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def lps(matrix: FloatArray) -> FloatArray:
    """Return a map between RAS+ worlds as one between LPS+ worlds, or the other way round."""
    return FLIP @ matrix @ FLIP


def centroid(mask: BoolArray, affine: FloatArray) -> FloatArray:
    """Return the mean position of the voxels of ``mask``, mm."""
    means = [
        np.average(np.arange(n), weights=mask.sum(axis=tuple({0, 1, 2} - {axis})))
        for axis, n in enumerate(mask.shape)
    ]
    return moved(np.array([means]), affine)[0]


def stretches(matrix: FloatArray) -> FloatArray:
    """Return the three factors by which ``matrix`` stretches lengths, largest first (singular values)."""
    return np.linalg.svd(matrix[:3, :3], compute_uv=False).astype(np.float64)


def distances(first: FloatArray, second: FloatArray, points: FloatArray) -> Distances:
    """Return how far apart two maps put ``points`` (n × 3, mm)."""
    apart = np.linalg.norm(moved(points, first) - moved(points, second), axis=1)
    return Distances(float(apart.mean()), float(apart.max()))


def lattice(mask: BoolArray, affine: FloatArray, step_mm: float) -> FloatArray:
    """Return the points inside ``mask`` of a lattice through the world's origin: n × 3, mm."""
    inverse = np.linalg.inv(affine).astype(np.float64)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in mask.shape])).reshape(3, -1).T.astype(np.float64)
    world = moved(corners, affine)
    first, last = np.ceil(world.min(axis=0) / step_mm), np.floor(world.max(axis=0) / step_mm)
    axes = [np.arange(a, b + 1) * step_mm for a, b in zip(first, last, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    voxels = np.rint(moved(points, inverse)).astype(np.int64)
    inside = ((voxels >= 0) & (voxels < mask.shape)).all(axis=1)
    points, voxels = points[inside], voxels[inside]
    return points[mask[tuple(voxels.T)]]
