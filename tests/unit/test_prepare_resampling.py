"""Averaging onto the grid, and the way back to the file's axes."""

import nibabel as nib
import numpy as np
import pytest

from privoxel.cohort.base import Grid
from privoxel.cohort.preprocess import Oriented, canonical
from privoxel.prepare.geometry import affine_about, rotation
from privoxel.prepare.resampling import as_stored, cropped, onto, within

GRID = Grid((4, 5, 3), 4.0, (-6.0, -8.0, -3.0))


def trilinear(array, voxel):
    """Return the value between voxels, 0 outside, by the eight corners."""
    low = np.floor(voxel).astype(int)
    total = 0.0
    for corner in np.ndindex(2, 2, 2):
        at = low + corner
        weight = np.prod([1 - abs(v - a) for v, a in zip(voxel, at, strict=True)])
        if all(0 <= a < n for a, n in zip(at, array.shape, strict=True)):
            total += weight * array[tuple(at)]
    return total


def onto_slowly(grid, image, to_scan, parts):
    """Return the mean over parts³ points of each voxel, one point after the other."""
    inverse = np.linalg.inv(image.affine)
    out = np.zeros(grid.shape)
    for index in np.ndindex(*grid.shape):
        for part in np.ndindex(parts, parts, parts):
            inside = (np.array(part) + 0.5) / parts - 0.5
            world = np.array(grid.origin_mm) + grid.voxel_mm * (np.array(index) + inside)
            place = inverse @ to_scan @ np.append(world, 1.0)
            out[index] += trilinear(image.array, place[:3]) / parts**3
    return out


@pytest.fixture
def image(rng):
    affine = np.diag([2.0, 1.9, 2.2, 1.0])
    affine[:3, 3] = (-9.0, -11.0, -7.0)
    return Oriented(rng.random((9, 12, 8)).astype(np.float32), affine)


def test_each_voxel_is_the_mean_of_points_as_fine_as_the_scan(image):
    to_scan = affine_about(rotation((8, -5, 12)), np.zeros(3), np.array([1.0, -0.5, 0.7]))
    np.testing.assert_allclose(onto(GRID, image, to_scan), onto_slowly(GRID, image, to_scan, 2), atol=2e-6)


def test_an_image_already_on_the_grid_stays_as_it_is(rng):
    array = rng.random(GRID.shape).astype(np.float32)
    np.testing.assert_allclose(onto(GRID, Oriented(array, GRID.affine), np.eye(4)), array, atol=1e-6)


@pytest.mark.parametrize("axes", ["RAS", "PSR", "LIP", "ASL"])
def test_a_canonical_array_goes_back_to_the_axes_it_came_from(rng, axes):
    stored = rng.random((7, 8, 9))
    to_axes = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(axes), nib.orientations.axcodes2ornt("RAS")
    )
    affine = nib.orientations.inv_ornt_aff(to_axes, stored.shape)
    there = canonical(stored, affine)
    np.testing.assert_array_equal(as_stored(there.array, affine), stored)


def test_a_crop_keeps_every_voxel_of_the_mask_where_it_was(image):
    mask = np.zeros(image.array.shape, dtype=bool)
    mask[3:6, 4:8, 2:4] = True
    box = within(mask, 1)
    part = cropped(image, box)
    assert box == (slice(2, 7), slice(3, 9), slice(1, 5))
    np.testing.assert_array_equal(part.array, image.array[2:7, 3:9, 1:5])
    np.testing.assert_allclose(part.affine @ [0, 0, 0, 1], image.affine @ [2, 3, 1, 1])


def test_a_crop_ends_at_the_image_s_edge(image):
    mask = np.ones(image.array.shape, dtype=bool)
    assert within(mask, 3) == (slice(0, 9), slice(0, 12), slice(0, 8))
