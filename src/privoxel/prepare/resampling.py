"""From the scan's voxels to the grid's: mean over each voxel of the grid, through an affine map."""

import math
from typing import Any

import nibabel.orientations
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from privoxel.arrays import BoolArray, Float32Array, FloatArray
from privoxel.cohort.base import Grid
from privoxel.cohort.preprocess import Oriented

orientations: Any = nibabel.orientations  # its functions carry no types


def onto(grid: Grid, image: Oriented, to_scan: FloatArray) -> Float32Array:
    """Return ``image`` on ``grid``: each voxel the mean of a lattice of points in it, as fine as the scan.

    Args:
        grid: where the volume goes; what lies outside the image is 0.
        image: scan in its own voxels.
        to_scan: map from the grid's world to the scan's, mm.
    """
    finest = float(np.linalg.norm((np.linalg.inv(to_scan) @ image.affine)[:3, :3], axis=0).min())
    parts = max(1, math.ceil(grid.voxel_mm / finest - 0.25))
    fine = np.diag([grid.voxel_mm / parts] * 3 + [1.0])
    fine[:3, 3] = np.array(grid.origin_mm) - grid.voxel_mm / 2 + grid.voxel_mm / parts / 2
    to_voxels = np.linalg.inv(image.affine) @ to_scan @ fine
    points = ndimage.affine_transform(
        image.array.astype(np.float32, copy=False),
        to_voxels[:3, :3],
        offset=to_voxels[:3, 3],
        output_shape=tuple(n * parts for n in grid.shape),
        order=1,
        mode="grid-constant",
    )
    x, y, z = grid.shape
    return points.reshape(x, parts, y, parts, z, parts).mean(axis=(1, 3, 5), dtype=np.float32)


def as_stored(array: npt.NDArray[np.generic], affine: FloatArray) -> npt.NDArray[np.generic]:
    """Return a canonical array with the axes of the file whose affine is given (undoes ``canonical``)."""
    to_canonical = orientations.io_orientation(affine)
    back = orientations.ornt_transform(np.array([[0, 1], [1, 1], [2, 1]]), to_canonical)
    return orientations.apply_orientation(array, back)


def within(mask: BoolArray, margin: int) -> tuple[slice, slice, slice]:
    """Return the box around ``mask`` with ``margin`` voxels to spare."""
    slices = []
    for axis, n in enumerate(mask.shape):
        used = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        slices.append(slice(max(0, int(used[0]) - margin), min(n, int(used[-1]) + 1 + margin)))
    return slices[0], slices[1], slices[2]


def cropped(image: Oriented, box: tuple[slice, slice, slice]) -> Oriented:
    """Return the part of an image inside a box of voxels, its affine moved along."""
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([part.start for part in box], dtype=np.float64)
    return Oriented(np.ascontiguousarray(image.array[box]), affine)
