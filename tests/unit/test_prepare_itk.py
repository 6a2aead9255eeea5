"""SimpleITK's steps on coarse volumes: places, shading and registration with a known answer."""

import numpy as np
import pytest
import SimpleITK

from privoxel.cohort.base import Grid
from privoxel.cohort.preprocess import Oriented, VolumeError
from privoxel.prepare.geometry import affine_about, centroid, distances, lattice, moved, rotation
from privoxel.prepare.itk import evened, itk_image, registered
from privoxel.prepare.outputs import transform_text
from privoxel.prepare.resampling import onto
from privoxel.prepare.template import load_template

COARSE = Grid((38, 46, 39), 5.0, (-92.0, -130.0, -80.0))
MOVE = affine_about(rotation((9, -6, 11)) @ np.diag([1.06, 0.95, 1.0]), np.zeros(3), np.array([9.0, -7, 4]))


@pytest.fixture(scope="module")
def template():
    return load_template(COARSE)


@pytest.fixture(scope="module")
def brain():
    """The template's brain, moved: as fine as a scan of 4 mm."""
    fine = load_template(Grid((46, 56, 48), 4.0, (-92.0, -130.0, -80.0)))
    grid = Grid((50, 60, 50), 4.0, (-95.0, -125.0, -90.0))
    return Oriented(onto(grid, fine.image, MOVE), grid.affine)


def start_of(template, brain):
    centre = centroid(template.mask, template.grid.affine)
    start = np.eye(4)
    start[:3, 3] = centroid(brain.array > 0.2, brain.affine) - centre
    return start, centre


def test_a_voxel_lies_where_its_affine_says_in_itk_too(rng):
    affine = affine_about(
        rotation((20, -10, 30)) @ np.diag([2.0, 3.0, 1.5]), np.zeros(3), np.array([5.0, 6, 7])
    )
    image = itk_image(rng.random((7, 8, 9)).astype(np.float32), affine)
    voxel = np.array([[6.0, 2.0, 5.0]])
    expected = moved(voxel, affine)[0] * [-1, -1, 1]
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((6, 2, 5)), expected, atol=1e-5)


def test_axes_that_are_not_at_right_angles_keep_their_places(rng):
    affine = affine_about(np.array([[2.0, 0.1, 0], [0, 2.0, 0.2], [0.05, 0, 3.0]]), np.zeros(3), np.ones(3))
    image = itk_image(rng.random((7, 8, 9)).astype(np.float32), affine)
    expected = moved(np.array([[6.0, 2.0, 5.0]]), affine)[0] * [-1, -1, 1]
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((6, 2, 5)), expected, atol=1e-5)


def test_the_written_map_is_what_itk_reads(rng, tmp_path):
    matrix = affine_about(rotation((5, 15, -25)), np.array([1.0, 2, 3]), np.array([10.0, -20, 30]))
    path = tmp_path / "xfm.txt"
    path.write_text(transform_text(matrix))
    read = SimpleITK.ReadTransform(str(path))
    for point in rng.normal(0, 50, (5, 3)):
        expected = moved(point[None], matrix)[0]
        np.testing.assert_allclose(np.array(read.TransformPoint(point * [-1, -1, 1])) * [-1, -1, 1], expected)


def test_registration_finds_a_known_move_and_repeats_bit_for_bit(template, brain):
    start, centre = start_of(template, brain)
    found = registered(template.image, brain, start, centre, seed=5)
    points = lattice(template.mask, template.grid.affine, 15.0)
    truth = np.linalg.inv(MOVE)
    assert distances(start, truth, points).mean > 8
    assert distances(found, truth, points).mean < 0.8
    np.testing.assert_array_equal(registered(template.image, brain, start, centre, seed=5), found)


def test_images_that_do_not_meet_cannot_be_registered(template, brain):
    start, centre = start_of(template, brain)
    start[:3, 3] += 2000
    with pytest.raises(VolumeError, match="no longer overlap"):
        registered(template.image, brain, start, centre, seed=5)


@pytest.fixture(scope="module")
def tissues():
    """Two tissues of 60 and 100, in the shape of the template's brain."""
    template = load_template(Grid((24, 29, 25), 8.0, (-92.0, -130.0, -80.0)))
    brain = np.where(template.brain > 0.75, 100, 60).astype(np.float32) * template.mask
    return Oriented(brain, template.grid.affine), template.mask


def test_shading_is_evened_out_and_again_to_the_same_bits(tissues):
    flat, mask = tissues
    slope = np.exp(np.linspace(-0.4, 0.4, mask.shape[1]))[None, :, None]
    shaded = Oriented((flat.array * slope).astype(np.float32), flat.affine)
    even = evened(shaded, mask)

    def spread(array):
        return float(np.log(array[mask] / flat.array[mask]).std())

    assert spread(shaded.array) > 0.1
    assert spread(even) < 0.05 * spread(shaded.array)
    np.testing.assert_array_equal(evened(shaded, mask), even)


def test_itk_gets_its_threads_back(tissues):
    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    evened(*tissues)
    assert SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads() == before
