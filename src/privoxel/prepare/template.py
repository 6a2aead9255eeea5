"""The brain that scans are registered to: the ICBM152 2009a symmetric template that nilearn carries."""

from typing import NamedTuple

import numpy as np

from privoxel.arrays import BoolArray, Float32Array
from privoxel.cohort.base import Grid
from privoxel.cohort.preprocess import Oriented, to_grid

REGISTRATION_GRID = Grid.mni(2)
BRAIN_ABOVE = 0.2
"""Intensity, as a share of the largest, that nilearn takes for the template's brain."""


class Template(NamedTuple):
    """The template's T1-weighted brain (0 to 1) and its mask on one grid."""

    brain: Float32Array
    mask: BoolArray
    grid: Grid

    @property
    def image(self) -> Oriented:
        """The brain with its affine."""
        return Oriented(self.brain, self.grid.affine)


def load_template(grid: Grid = REGISTRATION_GRID) -> Template:
    """Return the template on ``grid``, each voxel the mean over it. Nothing is downloaded."""
    from nilearn.datasets import load_mni152_template  # noqa: PLC0415 - takes a second

    image = load_mni152_template(resolution=1)
    whole = image.get_fdata(dtype=np.float32)
    mask = to_grid((whole > BRAIN_ABOVE).astype(np.float32), image.affine, grid) > 0.5
    return Template(to_grid(whole, image.affine, grid), mask, grid)
