"""Pictures to judge a preparation by: three planes of the head before, three of the brain after."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from privoxel.arrays import BoolArray, FloatArray
from privoxel.cohort.preprocess import Oriented
from privoxel.prepare.geometry import moved
from privoxel.store import atomic_path

PIXELS, PIXEL_MM = 192, 1.25
ORANGE = (255, 150, 40)
PLANES = ((1, 2), (0, 2), (0, 1))
"""World axes across and up: sagittal, coronal, axial."""

Colours = npt.NDArray[np.uint8]


class Outlined(NamedTuple):
    """An image, a mask to draw the outline of, and that mask's affine."""

    image: Oriented
    mask: BoolArray
    mask_affine: FloatArray


def planes(shown: Outlined, through: FloatArray, white: float) -> Colours:
    """Return the three planes through a point (mm) side by side: uint8 (192, 576, 3).

    Right is right and up is up (anterior is right in the sagittal plane); ``white`` is the brightest value.
    """
    return np.concatenate([_plane(shown, through, axes, white) for axes in PLANES], axis=1)


def write_png(path: Path, picture: Colours) -> None:
    """Write a picture; equal pictures give equal bytes."""
    from matplotlib.image import imsave  # noqa: PLC0415 - takes half a second

    untold: Any = {"Software": None}  # the version, which is no part of the picture
    with atomic_path(path) as part:
        imsave(part, picture, format="png", metadata=untold)


def _plane(shown: Outlined, through: FloatArray, axes: tuple[int, int], white: float) -> Colours:
    steps = (np.arange(PIXELS) - (PIXELS - 1) / 2) * PIXEL_MM
    points = np.broadcast_to(through, (PIXELS, PIXELS, 3)).copy()
    points[..., axes[0]] += steps[None, :]
    points[..., axes[1]] += steps[::-1, None]
    flat = points.reshape(-1, 3)
    grey = _sampled(shown.image.array, shown.image.affine, flat, order=1) / max(white, 1e-6)
    inside = _sampled(shown.mask.astype(np.float32), shown.mask_affine, flat, order=1) > 0.5
    picture = np.repeat((np.clip(grey, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=-1)
    picture[inside & ~ndimage.binary_erosion(inside)] = ORANGE
    return picture


def _sampled(
    array: npt.NDArray[np.float32], affine: FloatArray, points: FloatArray, *, order: int
) -> FloatArray:
    voxels = moved(points, np.linalg.inv(affine).astype(np.float64)).T
    values = ndimage.map_coordinates(array, voxels, order=order, mode="constant", cval=0.0)
    return values.reshape(PIXELS, PIXELS)
