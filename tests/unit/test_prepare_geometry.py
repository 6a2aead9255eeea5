"""Affine maps against slow twins: loops over points, powers of a generator, ITK's own transforms."""

import math

import numpy as np
import pytest

from privoxel.prepare.geometry import (
    affine_about,
    centroid,
    distances,
    lattice,
    lps,
    moved,
    rotation,
    stretches,
)


def moved_slowly(points, matrix):
    """Return each point's place, one product at a time."""
    out = np.zeros_like(points)
    for k, point in enumerate(points):
        for row in range(3):
            out[k, row] = sum(matrix[row, column] * point[column] for column in range(3)) + matrix[row, 3]
    return out


def distances_slowly(first, second, points):
    apart = [
        math.dist(a, b)
        for a, b in zip(moved_slowly(points, first), moved_slowly(points, second), strict=True)
    ]
    return sum(apart) / len(apart), max(apart)


def exponential(generator, terms=40):
    """Return the matrix exponential as its series."""
    out, power = np.eye(3), np.eye(3)
    for k in range(1, terms):
        power = power @ generator / k
        out += power
    return out


@pytest.fixture
def matrices(rng):
    return [np.vstack([np.c_[rng.normal(size=(3, 3)), rng.normal(0, 20, 3)], [0, 0, 0, 1]]) for _ in range(2)]


def test_points_move_and_differ_as_in_the_slow_twin(rng, matrices):
    points = rng.normal(0, 50, (11, 3))
    np.testing.assert_allclose(moved(points, matrices[0]), moved_slowly(points, matrices[0]), rtol=1e-12)
    np.testing.assert_allclose(distances(*matrices, points), distances_slowly(*matrices, points), rtol=1e-12)


def test_a_shift_puts_every_landmark_as_far_away_as_it_is_long(rng):
    shift = affine_about(np.eye(3), np.zeros(3), np.array([3.0, 0.0, -4.0]))
    np.testing.assert_allclose(distances(shift, np.eye(4), rng.normal(size=(7, 3))), (5.0, 5.0))


def test_rotations_are_exponentials_of_their_generators():
    turns = np.radians([12.0, -7.0, 31.0])
    axes = np.zeros((3, 3, 3))
    for i, j, k, sign in ((0, 1, 2, 1), (1, 2, 0, 1), (2, 0, 1, 1)):
        axes[i, k, j], axes[i, j, k] = sign, -sign
    about_x, about_y, about_z = (exponential(angle * axis) for angle, axis in zip(turns, axes, strict=True))
    np.testing.assert_allclose(rotation((12.0, -7.0, 31.0)), about_z @ about_y @ about_x, atol=1e-13)


def test_a_map_about_a_centre_leaves_the_centre_but_for_the_shift():
    centre, shift = np.array([4.0, -8.0, 15.0]), np.array([1.0, 2.0, 3.0])
    matrix = affine_about(rotation((20, 30, 40)) * 1.2, centre, shift)
    np.testing.assert_allclose(moved(centre[None], matrix)[0], centre + shift)


def test_going_to_itk_s_world_and_back_changes_nothing_and_flips_two_axes(matrices):
    np.testing.assert_allclose(lps(lps(matrices[0])), matrices[0])
    point = np.array([[2.0, 3.0, 5.0]])
    mirrored = point * [-1, -1, 1]
    np.testing.assert_allclose(moved(mirrored, lps(matrices[0])), moved(point, matrices[0]) * [-1, -1, 1])


def test_the_centroid_is_the_mean_place_of_the_mask_s_voxels(rng, matrices):
    mask = rng.random((7, 8, 9)) < 0.3
    expected = moved_slowly(np.argwhere(mask).astype(float), matrices[0]).mean(axis=0)
    np.testing.assert_allclose(centroid(mask, matrices[0]), expected)


def test_stretches_are_those_of_a_scaled_rotation_largest_first():
    matrix = affine_about(rotation((10, 20, 30)) @ np.diag([0.9, 1.2, 1.0]), np.zeros(3), np.ones(3))
    np.testing.assert_allclose(stretches(matrix), [1.2, 1.0, 0.9])


def test_a_lattice_holds_every_multiple_inside_the_mask_and_nothing_else():
    mask = np.zeros((7, 8, 9), dtype=bool)
    mask[2:5, 3:7, 1:8] = True
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-7.0, -5.0, -9.0)
    found = {tuple(point) for point in lattice(mask, affine, 3.0)}
    expected = set()
    for x in range(-30, 31, 3):
        for y in range(-30, 31, 3):
            for z in range(-30, 31, 3):
                voxel = tuple(np.rint((np.array([x, y, z]) - affine[:3, 3]) / 2).astype(int))
                if all(0 <= v < n for v, n in zip(voxel, mask.shape, strict=True)) and mask[voxel]:
                    expected.add((float(x), float(y), float(z)))
    assert found == expected
    assert len(found) > 5
