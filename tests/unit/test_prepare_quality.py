"""Scores of a preparation, what is odd about them, and the pictures."""

import numpy as np
import pytest

from privoxel.cohort.base import Grid
from privoxel.cohort.preprocess import Oriented
from privoxel.prepare.geometry import affine_about, rotation
from privoxel.prepare.pictures import ORANGE, PIXELS, Outlined, planes, write_png
from privoxel.prepare.quality import BOUNDS, dice, faults, outliers, placed_scores, scan_scores
from privoxel.prepare.template import load_template

COARSE = Grid((38, 46, 39), 5.0, (-92.0, -130.0, -80.0))
GOOD = {
    "correlation": 0.6,
    "overlap": 0.95,
    "volume_ml": 1600.0,
    "least_stretch": 0.95,
    "most_stretch": 1.05,
    "at_edge": 0.0,
}


def test_dice_counts_what_two_masks_share():
    first, second = np.zeros((7, 8, 9), dtype=bool), np.zeros((7, 8, 9), dtype=bool)
    first[:2], second[1:4] = True, True
    assert dice(first, second) == pytest.approx(2 * 1 / (2 + 3))
    assert dice(first, first) == 1.0
    assert dice(first, np.zeros_like(first)) == 0.0


def test_the_template_fits_itself_and_its_mirror_image_fits_worse():
    template = load_template(COARSE)
    itself = placed_scores(template.brain, template.mask, template)
    assert itself["correlation"] == pytest.approx(1.0)
    assert itself["overlap"] == 1.0
    upside_down = placed_scores(template.brain[:, :, ::-1], template.mask[:, :, ::-1], template)
    assert upside_down["correlation"] < 0.4
    assert faults(GOOD | upside_down)


def test_a_constant_volume_has_no_correlation():
    template = load_template(COARSE)
    assert placed_scores(np.ones(COARSE.shape, np.float32), template.mask, template)["correlation"] == 0.0


def test_volume_stretch_and_edge_are_those_of_the_mask_and_the_map():
    mask = np.zeros((7, 8, 9), dtype=bool)
    mask[1:4, 2:5, :3] = True
    map_ = affine_about(rotation((5, 6, 7)) @ np.diag([0.9, 1.1, 1.0]), np.zeros(3), np.ones(3))
    scores = scan_scores(mask, np.diag([2.0, -3.0, 4.0, 1.0]), map_)
    assert scores["volume_ml"] == pytest.approx(27 * 24 / 1000)
    assert (scores["least_stretch"], scores["most_stretch"]) == pytest.approx((0.9, 1.1))
    assert scores["at_edge"] == pytest.approx(9 / 27)


def test_scores_within_bounds_are_no_fault_and_each_one_outside_is_named():
    assert faults(GOOD) == []
    for name, bound in BOUNDS.items():
        outside = bound.low - 0.1 if name != "at_edge" else 0.01
        assert [phrase.startswith(bound.title) for phrase in faults(GOOD | {name: outside})] == [True]


def test_a_scan_far_below_the_others_is_an_outlier_and_only_that_one(rng):
    scores = [GOOD | {"correlation": 0.6 + 0.02 * rng.standard_normal()} for _ in range(30)]
    scores[4] = GOOD | {"correlation": 0.42}
    phrases = outliers(scores)
    assert [bool(one) for one in phrases] == [k == 4 for k in range(30)]
    assert "far below the median" in phrases[4][0]
    assert outliers(scores[:9]) == [[]] * 9


def test_equal_scores_are_no_outliers():
    assert outliers([GOOD] * 12) == [[]] * 12


def test_a_picture_shows_the_three_planes_with_the_outline(tmp_path):
    affine = np.diag([10.0, 10.0, 10.0, 1.0])
    affine[:3, 3] = (-70.0, -80.0, -90.0)
    array = np.zeros((15, 17, 19), dtype=np.float32)
    array[:, :, 12:] = 50.0
    mask = np.zeros(array.shape, dtype=bool)
    mask[5:10, 5:12, 5:14] = True
    picture = planes(Outlined(Oriented(array, affine), mask, affine), np.zeros(3), 50.0)
    assert picture.shape == (PIXELS, 3 * PIXELS, 3)
    sagittal, coronal, axial = np.split(picture, 3, axis=1)
    for plane in (sagittal, coronal):
        assert plane[40, PIXELS // 2].tolist() == [255, 255, 255]
        assert plane[-40, PIXELS // 2].tolist() == [0, 0, 0]
    for plane in (sagittal, coronal, axial):
        assert (plane == ORANGE).all(axis=-1).sum() > 100
    write_png(tmp_path / "a.png", picture)
    write_png(tmp_path / "b.png", picture)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
