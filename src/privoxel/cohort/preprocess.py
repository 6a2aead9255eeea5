"""From an image in its own voxels to a volume on the model's grid: pure array functions.

Three steps, in this order: canonical orientation (RAS+), resampling onto the grid in world
millimetres, z-score (Gupta et al. 2021, 3.1). Intensities are taken relative to the image's
background before resampling, so that whatever lies outside the field of view is background too;
a z-score does not notice the shift.

Where image and grid axes are parallel, a grid voxel is the mean of the image over a box as wide as
the wider of the two voxels. That one rule is block averaging when the grid is coarser by a whole
number, linear interpolation when it is finer, and plain cropping and padding when the voxels match.
Oblique images are smoothed by a Gaussian when the grid is coarser, then interpolated linearly.
"""

from typing import Any, Literal, NamedTuple

import nibabel.orientations
import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from privoxel.arrays import Float32Array, FloatArray
from privoxel.cohort.base import Grid
from privoxel.errors import CohortError

orientations: Any = nibabel.orientations  # its functions carry no types
Normalise = Literal["all", "brain", "none"]

BRAIN_BOX_MM = np.array([[-70.0, -104.0, -64.0], [70.0, 72.0, 80.0]])
"""Corners of a box around the MNI152 brain, mm."""

FWHM_PER_SD = 2.3548200450309493
PARALLEL = 1e-4
"""Largest off-diagonal term, in voxels per voxel, of axes that count as parallel."""


class VolumeError(CohortError):
    """A volume that cannot be used; ``what`` says why and ``remedy`` what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}. {remedy}")
        self.what = what
        self.remedy = remedy


class Oriented(NamedTuple):
    """An array with its voxel-to-world matrix (4 × 4, mm)."""

    array: npt.NDArray[Any]
    affine: FloatArray


def canonical(array: npt.NDArray[Any], affine: FloatArray) -> Oriented:
    """Return the array with axes flipped and permuted to run as closely as possible to R, A, S.

    No voxel changes its value; the result is that of ``nibabel.as_closest_canonical``.
    """
    orientation = orientations.io_orientation(affine)
    back = orientations.inv_ornt_aff(orientation, array.shape)
    return Oriented(orientations.apply_orientation(array, orientation), affine @ back)


def coverage(shape: tuple[int, ...], affine: FloatArray, grid: Grid) -> float:
    """Return the share (0-1) of the brain's box inside ``grid`` that an image's field of view covers."""
    first = np.array(grid.origin_mm) - grid.voxel_mm / 2
    last = first + np.array(grid.shape) * grid.voxel_mm
    low, high = np.maximum(first, BRAIN_BOX_MM[0]), np.minimum(last, BRAIN_BOX_MM[1])
    if (high <= low).any():
        low, high = first, last
    steps = (np.arange(20) + 0.5) / 20
    axes = [a + steps * (b - a) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    inverse = np.linalg.inv(affine)
    voxels = points @ inverse[:3, :3].T + inverse[:3, 3]
    inside = (voxels >= -0.5).all(axis=1) & (voxels <= np.array(shape) - 0.5).all(axis=1)
    return float(inside.mean())


def background_of(array: npt.NDArray[Any]) -> float:
    """Return the background's intensity: the median over the six outer faces."""
    faces = [np.take(array, end, axis=axis).reshape(-1) for axis in range(3) for end in (0, -1)]
    return float(np.median(np.concatenate(faces)))


def to_grid(array: npt.NDArray[Any], affine: FloatArray, grid: Grid) -> Float32Array:
    """Return a canonical image resampled onto ``grid``: float32, intensities above the background.

    Args:
        array: three-dimensional image, axes close to R, A, S (see ``canonical``).
        affine: its voxel-to-world matrix, mm.
        grid: where the volume goes; voxels outside the image become background (0).
    """
    image = array.astype(np.float32) - np.float32(background_of(array))
    scale = np.abs(affine[:3, :3])
    voxel = np.linalg.norm(affine[:3, :3], axis=0)
    off_axis = scale - np.diag(np.diag(scale))
    if off_axis.max() > PARALLEL * voxel.min():
        return _interpolate(image, affine, grid)
    return _average(image, affine, grid)


def _average(image: Float32Array, affine: FloatArray, grid: Grid) -> Float32Array:
    """Mean over boxes, one axis after the other (each step brings the next axis to the front)."""
    for axis in range(3):
        weights = box_weights(
            image.shape[0],
            grid.shape[axis],
            step=grid.voxel_mm / affine[axis, axis],
            start=(grid.origin_mm[axis] - affine[axis, 3]) / affine[axis, axis],
        )
        mixed = weights @ image.reshape(image.shape[0], -1)
        image = np.ascontiguousarray(mixed.reshape(-1, *image.shape[1:]).transpose(1, 2, 0))
    return image


def box_weights(n_in: int, n_out: int, *, step: float, start: float) -> sparse.csr_array:
    """Return the weights of ``n_in`` voxels in ``n_out`` box means along one axis: n_out × n_in, float32.

    Output voxel i is centred at ``start + i * step`` in input voxels; its box is max(step, 1) wide. A weight
    is the length that box and input voxel share, over the width; what a row lacks of 1 is background.
    """
    width = max(step, 1.0)
    centre = start + step * np.arange(n_out)[:, None]
    voxel = np.arange(n_in)[None, :]
    shared = np.minimum(centre + width / 2, voxel + 0.5) - np.maximum(centre - width / 2, voxel - 0.5)
    # affines stored in single precision leave slivers; without them equal voxels are copied exactly
    weights = np.where(shared > 1e-4, shared, 0.0) / width
    weights[weights > 1 - 1e-4] = 1.0
    return sparse.csr_array(weights.astype(np.float32))


def _interpolate(image: Float32Array, affine: FloatArray, grid: Grid) -> Float32Array:
    ratio = grid.voxel_mm / np.linalg.norm(affine[:3, :3], axis=0)
    sigma = np.sqrt(np.maximum(ratio**2 - 1, 0)) / FWHM_PER_SD
    if (sigma > 0).any():
        image = ndimage.gaussian_filter(image, sigma, mode="constant")
    to_image = np.linalg.inv(affine) @ grid.affine
    return ndimage.affine_transform(
        image,
        to_image[:3, :3],
        offset=to_image[:3, 3],
        output_shape=grid.shape,
        order=1,
        mode="grid-constant",
    )


def z_score(volume: Float32Array, where: Normalise = "all") -> Float32Array:
    """Return ``volume`` with mean 0 and SD 1: float32, same shape.

    ``"all"`` takes mean and SD over every voxel with the background, as the paper does.
    ``"brain"`` takes them over the voxels that are not background (not 0) and leaves the background 0.
    ``"none"`` returns the intensities above the background as they are, for models that scale them.

    Raises:
        VolumeError: if the voxels are all equal, or if ``"brain"`` finds hardly any background.
    """
    if where == "none":
        _standardised(volume, volume)  # refuses what is constant
        return volume.astype(np.float32)
    if where == "all":
        return _standardised(volume, volume)
    brain = volume != 0
    if brain.mean() > 0.95:
        raise VolumeError(
            "has no background to tell the brain from",
            'Strip the skull (background one constant value), or normalise over "all" voxels',
        )
    out = np.zeros_like(volume)
    out[brain] = _standardised(volume[brain], volume)
    return out


def _standardised(values: Float32Array, volume: Float32Array) -> Float32Array:
    largest = float(np.abs(volume).max(initial=0.0))
    sd = float(values.std(dtype=np.float64)) if values.size else 0.0
    if sd <= 1e-6 * largest or largest == 0.0:
        raise VolumeError(
            "is constant on the model's grid", "Check that the file holds a brain and its affine is right"
        )
    mean = float(values.mean(dtype=np.float64))
    return ((values - mean) / sd).astype(np.float32)


def history_of(grid: Grid, normalise: Normalise) -> tuple[str, ...]:
    """Return the preprocessing steps in words, in order."""
    x, y, z = grid.shape
    i, j, k = grid.origin_mm
    voxels = "all voxels" if normalise == "all" else "brain voxels (not background), background 0"
    return (
        "canonical orientation (RAS+)",
        f"onto {x}×{y}×{z} voxels of {grid.voxel_mm:g} mm, first centre at ({i:g}, {j:g}, {k:g}) mm: "
        "mean over a box as wide as the wider voxel; oblique images Gaussian then linear; background outside",
        "intensities above the background" if normalise == "none" else f"z-score over {voxels}",
    )
