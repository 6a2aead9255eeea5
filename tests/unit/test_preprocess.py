import itertools

import nibabel as nib
import numpy as np
import pytest

from privoxel.cohort.base import Grid
from privoxel.cohort.preprocess import (
    VolumeError,
    background_of,
    box_weights,
    canonical,
    coverage,
    history_of,
    to_grid,
    z_score,
)
from tests.niftis import AFFINE, GRID, SHAPE, blob


def slow_average(array, affine, grid):
    """Mean over boxes as wide as the wider voxel, one voxel pair at a time; the rest is background."""
    background = np.median(
        np.concatenate([array[[0, -1]].ravel(), array[:, [0, -1]].ravel(), array[:, :, [0, -1]].ravel()])
    )
    out = np.zeros(grid.shape)
    size = np.diag(affine)[:3]
    width = np.maximum(size, grid.voxel_mm)
    for target in np.ndindex(grid.shape):
        centre = np.array(grid.origin_mm) + grid.voxel_mm * np.array(target)
        for source in np.ndindex(array.shape):
            place = affine[:3, 3] + size * np.array(source)
            shared = np.minimum(centre + width / 2, place + size / 2) - np.maximum(
                centre - width / 2, place - size / 2
            )
            if (shared > 0).all():
                out[target] += (array[source] - background) * np.prod(shared / width)
    return out


def slow_linear(array, affine, grid):
    """Trilinear interpolation, eight neighbours at a time, 0 outside."""
    out = np.zeros(grid.shape)
    inverse = np.linalg.inv(affine)
    for target in np.ndindex(grid.shape):
        world = np.append(np.array(grid.origin_mm) + grid.voxel_mm * np.array(target), 1)
        place = (inverse @ world)[:3]
        low = np.floor(place).astype(int)
        for corner in itertools.product((0, 1), repeat=3):
            index = low + corner
            if (index >= 0).all() and (index < array.shape).all():
                out[target] += array[tuple(index)] * np.prod(1 - np.abs(place - index))
    return out


@pytest.mark.parametrize("axes", ["LPS", "PSR", "RAS", "SLA", "IPL"])
def test_any_orientation_of_the_same_image_gives_the_same_volume(axes):
    array = blob(0)
    upright = nib.Nifti1Image(array, AFFINE)
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(axes))
    )
    turned = upright.as_reoriented(turn)
    assert "".join(nib.aff2axcodes(turned.affine)) == axes
    back = canonical(np.asarray(turned.dataobj), turned.affine)
    np.testing.assert_array_equal(back.array, array)
    np.testing.assert_allclose(back.affine, AFFINE)
    expected = nib.as_closest_canonical(turned)
    np.testing.assert_array_equal(back.array, np.asarray(expected.dataobj))
    np.testing.assert_allclose(back.affine, expected.affine)


@pytest.mark.parametrize("voxel_mm", [20.0, 13.0, 10.0, 7.0])
def test_resampling_equals_the_mean_over_boxes(voxel_mm):
    rng = np.random.default_rng(3)
    array = rng.uniform(0, 5, size=(7, 8, 9))
    affine = np.diag([10.0, 12.0, 9.0, 1.0])
    affine[:3, 3] = (-31, -44, -33)
    grid = Grid((5, 6, 7), voxel_mm, (-30.0, -40.0, -35.0))
    np.testing.assert_allclose(to_grid(array, affine, grid), slow_average(array, affine, grid), atol=2e-5)


def test_a_coarser_grid_by_a_whole_number_gives_block_averages():
    array = np.random.default_rng(1).uniform(0, 5, size=(14, 16, 18))
    array[0], array[-1], array[:, 0], array[:, -1], array[:, :, 0], array[:, :, -1] = (0,) * 6
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    grid = Grid((7, 8, 9), 4.0, (1.0, 1.0, 1.0))
    blocks = array.reshape(7, 2, 8, 2, 9, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(to_grid(array, affine, grid), blocks, atol=1e-6)


def test_a_finer_grid_is_linear_interpolation():
    array = np.random.default_rng(1).uniform(0, 5, size=(7, 8, 9))
    array[0], array[-1], array[:, 0], array[:, -1], array[:, :, 0], array[:, :, -1] = (0,) * 6
    affine = np.diag([10.0, 10.0, 10.0, 1.0])
    grid = Grid((11, 12, 13), 4.0, (3.0, 5.0, 7.0))
    np.testing.assert_allclose(to_grid(array, affine, grid), slow_linear(array, affine, grid), atol=1e-5)


def test_equal_voxels_are_cropped_and_padded_without_touching_a_value():
    array = blob(4, (7, 8, 9))
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (1e-6, -4.0, 8.0)  # one voxel to crop at the back, two to pad below
    volume = to_grid(array, affine, Grid((9, 7, 10), 4.0, (0.0, 0.0, 0.0)))
    expected = np.zeros((9, 7, 10), dtype=np.float32)
    expected[:7, :, 2:] = array[:, 1:, :8]
    np.testing.assert_array_equal(volume, expected)


def test_an_oblique_image_is_interpolated_in_the_right_place():
    angle = np.deg2rad(11)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation * 10.0
    affine[:3, 3] = (-20, -40, -40)
    array = blob(5, (7, 8, 9))
    array[0, 3:5, 3:6] = 50  # a face that is not background, with the grid reaching beyond it
    grid = Grid((6, 7, 8), 8.0, (-25.0, -20.0, -35.0))
    np.testing.assert_allclose(to_grid(array, affine, grid), slow_linear(array, affine, grid), atol=1e-4)


def test_an_oblique_image_is_smoothed_before_a_coarser_grid():
    affine = np.eye(4) + 1e-2 * np.eye(4, k=1)
    affine[2, 3] = 0.0
    rng = np.random.default_rng(2)
    noise = np.pad(rng.normal(size=(38, 40, 42)), 1)
    coarse = to_grid(noise, affine, Grid((7, 8, 9), 4.0, (5.0, 5.0, 5.0)))
    assert coarse.std() < 0.3 * noise.std()


def test_what_lies_outside_the_image_is_background_and_not_zero():
    array = blob(6, (7, 8, 9)) + 1000
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    volume = to_grid(array, affine, Grid((11, 12, 13), 4.0, (-8.0, -8.0, -8.0)))
    assert background_of(array) == 1000
    assert volume[0, 0, 0] == 0
    np.testing.assert_allclose(volume[2:9, 2:10, 2:11], array - 1000)


def test_weights_never_exceed_one_and_lose_only_what_is_outside():
    rows = box_weights(9, 5, step=1.7, start=0.4).toarray().sum(axis=1)
    np.testing.assert_allclose(rows, 1, atol=1e-6)
    assert box_weights(9, 3, step=4.0, start=-1.0).toarray()[0].sum() == pytest.approx(1.5 / 4)


def test_coverage_is_the_share_of_the_brain_box_in_the_image():
    assert coverage(SHAPE, AFFINE, GRID) == 1.0
    half = AFFINE.copy()
    half[0, 3] = 0.0
    assert coverage(SHAPE, half, GRID) == pytest.approx(0.5, abs=0.06)


def test_z_scores_have_mean_0_and_sd_1_over_all_voxels():
    volume = blob(7)
    scored = z_score(volume)
    exact = (volume.astype(np.float64) - volume.mean(dtype=np.float64)) / volume.std(dtype=np.float64)
    np.testing.assert_allclose(scored, exact, atol=1e-5)
    assert scored.dtype == np.float32


def test_brain_z_scores_leave_the_background_at_0():
    volume = blob(8)
    scored = z_score(volume, "brain")
    assert (scored[volume == 0] == 0).all()
    assert scored[volume != 0].mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
    assert scored[volume != 0].std(dtype=np.float64) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("where", ["all", "brain"])
def test_a_constant_volume_cannot_be_scored(where):
    with pytest.raises(VolumeError, match="constant on the model's grid"):
        z_score(np.zeros((7, 8, 9), dtype=np.float32), where)


def test_brain_scores_need_a_background():
    full = np.random.default_rng(0).uniform(1, 2, size=(7, 8, 9)).astype(np.float32)
    with pytest.raises(VolumeError, match="no background"):
        z_score(full, "brain")


def test_the_history_names_grid_and_normalisation():
    assert "7×8×9 voxels of 20 mm" in history_of(GRID, "all")[1]
    assert history_of(GRID, "all") != history_of(GRID, "brain")
