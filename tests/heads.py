"""Heads built around the template's brain: a skull, a scalp, and a known place in space."""

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from privoxel.cohort.base import Grid
from privoxel.cohort.preprocess import Oriented
from privoxel.prepare.geometry import affine_about, rotation
from privoxel.prepare.resampling import onto
from privoxel.prepare.template import load_template

GRID = Grid((66, 84, 72), 3.0, (-97.0, -142.0, -95.0))
CENTRE = np.array([0.0, -17.0, 18.0])
MOVE = affine_about(
    rotation((9.0, -6.0, 11.0)) @ np.diag([1.03, 0.97, 1.0]), CENTRE, np.array([7.0, -9.0, 5.0])
)
"""From the head's world to the template's."""


def head(seed: int = 0, *, grid: Grid = GRID, move: np.ndarray = MOVE) -> tuple[Oriented, np.ndarray]:
    """Return a noisy, shaded head on its own grid and the true mask of its brain."""
    template = load_template()
    inner = ndimage.binary_dilation(template.mask, iterations=3)
    outer = ndimage.binary_dilation(inner, iterations=4)
    voxels = template.brain + np.where(inner & ~template.mask, 0.12, 0) + np.where(outer & ~inner, 0.9, 0)
    place = template.grid.affine
    image = onto(grid, Oriented(voxels.astype(np.float32), place), move)
    mask = onto(grid, Oriented(template.mask.astype(np.float32), place), move) > 0.5
    rng = np.random.default_rng(seed)
    slope = np.exp(np.linspace(-0.2, 0.2, grid.shape[1]))[None, :, None]
    noisy = np.abs(500 * image * slope + rng.normal(0, 6, grid.shape))
    return Oriented(noisy.astype(np.float32), grid.affine), mask


def write_head(path: Path, image: Oriented, axes: str = "RAS") -> Path:
    """Write a head as int16 with the axes stored in the order ``axes``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = nib.Nifti1Image(np.clip(image.array, 0, 4000).astype(np.int16), image.affine)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes)
    )
    turned = whole.as_reoriented(turn)
    turned.set_sform(turned.affine, code=1)
    turned.set_qform(turned.affine, code=1)
    nib.save(turned, path)
    return path
