import base64
import math
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest

from privoxel.evaluation.archive import TargetScores
from privoxel.evaluation.results import Metric, TrainingPoint
from privoxel.evaluation.roc import roc_curve
from privoxel.report.figures import (
    IntervalRow,
    age_chart,
    error_chart,
    gradient_chart,
    interval_chart,
    roc_chart,
    training_chart,
)
from privoxel.report.slices import mid_slices, png_uri, side_by_side
from tests.fabricated import ATTACKS, Fabrication, fabricated_run

_, ARCHIVE = fabricated_run(Fabrication(attacks=ATTACKS[:3], per_class=60, repeats=2, slices=0))
SCORES: TargetScores = next(iter(ARCHIVE.targets.values()))


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def marks(svg: str) -> int:
    return svg.count("<use ")


def test_the_drawn_roc_is_the_fraction_of_members_above_the_threshold():
    evaluated = SCORES.evaluated["default"]
    curve = roc_curve(evaluated, rng(), points=13)
    expected = []
    for rate in curve.fpr:
        found = []
        for row in evaluated.scores:
            pairs = [(s, m) for s, m in zip(row, evaluated.members, strict=True) if not math.isnan(s)]
            outside = sorted((s for s, m in pairs if not m), reverse=True)
            inside = [s for s, m in pairs if m]
            allowed = int(rate * len(outside) + 1e-6)
            limit = outside[allowed] if allowed < len(outside) else -np.inf
            found.append(sum(s > limit for s in inside) / len(inside))
        expected.append(sum(found) / len(found))
    np.testing.assert_allclose(curve.tpr, expected, atol=1e-12)


def test_the_roc_names_the_primary_attack_and_counts_the_others():
    picture = roc_chart(SCORES, "tube-that-is-not-there", rng(), key="a", title="First")
    texts = [key.text for key in picture.legend]
    assert texts[0] == "First (band: holds the whole curve with 95 %)"
    assert "the other 2 attacks" in texts
    assert "checks that should guess" in texts


def test_the_roc_of_one_attack_alone_has_no_others():
    alone = replace(SCORES, evaluated={"default": SCORES.evaluated["default"]}, controls={})
    picture = roc_chart(alone, "default", rng(), key="a", title="Default")
    assert [key.mark for key in picture.legend] == ["line-member", "guess"]


def test_the_roc_of_a_handful_of_scans_is_drawn_without_complaint():
    _, few = fabricated_run(Fabrication(attacks=ATTACKS[:3], per_class=4, repeats=2, slices=0))
    picture = roc_chart(next(iter(few.targets.values())), "default", rng(), key="a", title="Default")
    assert "<svg" in picture.svg


def test_the_interval_chart_draws_the_papers_value_only_where_there_is_one():
    rows = [
        IntervalRow(f"attack {n}", Metric(value=0.7), Metric(value=0.6, paper=p))
        for n, p in enumerate((0.7, None))
    ]
    with_paper = interval_chart(rows, key="a", title="t")
    without = interval_chart(rows[1:], key="a", title="t")
    assert "diamond" in {key.mark for key in with_paper.legend}
    assert "diamond" not in {key.mark for key in without.legend}
    assert "attack 0: AUC 0.70, accuracy 0.60." in with_paper.svg


def test_the_interval_chart_survives_rows_without_numbers():
    rows = [
        IntervalRow("a", None, None),
        IntervalRow("b", Metric(value=None, reason="r"), None, is_control=True),
    ]
    picture = interval_chart(rows, key="a", title="t")
    assert "b: not measured." in picture.svg


def test_a_low_value_widens_the_axis_of_the_interval_chart():
    usual = interval_chart([IntervalRow("a", Metric(value=0.7), None)], key="a", title="t").svg
    low = interval_chart(
        [IntervalRow("a", Metric(value=0.3, low=0.21, high=0.4), None)], key="a", title="t"
    ).svg
    assert ">0.2<" in low
    assert ">0.4<" not in usual


def test_a_label_with_markup_and_dollars_is_drawn_as_it_is():
    svg = interval_chart([IntervalRow("<b>$\\frac{&", Metric(value=0.7), None)], key="a", title="t").svg
    assert "<b>" not in svg
    assert "&lt;b&gt;$\\frac{&amp;" in svg


def test_a_label_in_another_script_is_drawn_without_complaint():
    assert "攻撃" in interval_chart([IntervalRow("攻撃", Metric(value=0.7), None)], key="a", title="t").svg


def test_gradient_norms_that_were_not_extracted_give_no_chart():
    assert gradient_chart(SCORES, key="a") is not None
    assert gradient_chart(replace(SCORES, gradient_norm=np.full(120, np.nan)), key="a") is None
    half = np.where(SCORES.members, SCORES.gradient_norm, np.nan)
    assert gradient_chart(replace(SCORES, gradient_norm=half), key="a") is None


def test_constant_errors_still_give_a_chart():
    assert "<svg" in error_chart(replace(SCORES, prediction=SCORES.age), key="a").svg


def test_the_scatter_draws_every_scan_until_there_are_too_many():
    every, some = (age_chart(SCORES, key="a", most=most) for most in (120, 50))
    assert marks(every.svg) - marks(some.svg) == 70
    assert "All 120 scans" in every.caption
    assert "50 of 120 scans" in some.caption


def test_whole_years_hide_exact_ages():
    shifted = replace(SCORES, age=SCORES.age.round() + 0.3, prediction=SCORES.prediction.round() - 0.4)
    rounded = replace(SCORES, age=SCORES.age.round(), prediction=SCORES.prediction.round())
    dots = [
        re.findall(r"<use [^>]*>", age_chart(s, key="a", whole_years=whole).svg.split("<text")[-1])
        for s, whole in ((shifted, True), (rounded, True))
    ]
    assert len(set(dots[0])) == len(set(dots[1]))
    exact = age_chart(SCORES, key="a").svg
    places = [
        set(re.findall(r'<use [^>]*x="([\d.]+)"', svg))
        for svg in (exact, age_chart(SCORES, key="a", whole_years=True).svg)
    ]
    assert len(places[1]) < len(places[0]) / 2


def test_a_training_curve_needs_points_and_may_lack_validation():
    assert training_chart([], 6.2, key="a") is None
    points = [TrainingPoint(epoch=e, train_mae=5.0 - e) for e in range(3)]
    picture = training_chart(points, 6.2, key="a")
    assert picture is not None
    assert [key.text for key in picture.legend] == ["training set", "predicting the mean age (6.2 years)"]


def test_two_charts_on_one_page_share_no_id():
    ids = [set(re.findall(r'\bid="([^"]*)"', error_chart(SCORES, key=key).svg)) for key in ("a", "b")]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_charts_use_the_pages_colours_and_font():
    svg = error_chart(SCORES, key="a").svg
    assert "var(--member)" in svg
    assert "var(--other)" in svg
    assert not re.search(r"#[0-9a-f]{6}\b(?!\))", re.sub(r"#a-\d+", "", svg))
    assert "font-family" not in svg
    assert "http" not in svg


def reference_planes(volume: np.ndarray) -> list[np.ndarray]:
    low, high = np.percentile(volume, (1, 99.5))
    grey = np.rint(255 * np.clip((volume - low) / (high - low), 0, 1)).astype(np.uint8)
    nx, ny, nz = volume.shape
    sagittal = np.array([[grey[nx // 2, y, z] for y in range(ny)] for z in reversed(range(nz))])
    coronal = np.array([[grey[x, ny // 2, z] for x in range(nx)] for z in reversed(range(nz))])
    axial = np.array([[grey[x, y, nz // 2] for x in range(nx)] for y in reversed(range(ny))])
    return [sagittal, coronal, axial]


def test_mid_planes_stand_upright_in_one_common_size():
    volume = np.random.default_rng(1).normal(0, 1, (7, 8, 10))
    planes = mid_slices(volume)
    assert planes.shape == (3, 10, 8)
    assert planes.dtype == np.uint8
    for plane, expected in zip(planes, reference_planes(volume), strict=True):
        top, left = (10 - expected.shape[0]) // 2, (8 - expected.shape[1]) // 2
        inner = plane[top : top + expected.shape[0], left : left + expected.shape[1]]
        np.testing.assert_array_equal(inner, expected)
        assert plane.sum(dtype=int) == expected.sum(dtype=int)


def test_mid_planes_do_not_depend_on_the_units_of_the_scan():
    volume = np.random.default_rng(1).normal(0, 1, (7, 8, 9))
    np.testing.assert_array_equal(mid_slices(volume), mid_slices(40 * volume + 900))
    np.testing.assert_array_equal(mid_slices(volume), mid_slices(volume.ravel(), (7, 8, 9)))


def test_a_constant_scan_is_black():
    assert not mid_slices(np.full((7, 8, 9), 3.0)).any()


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (np.zeros((7, 8)), "three axes"),
        (np.zeros((0, 8, 9)), "three axes"),
        (np.full((7, 8, 9), np.nan), "finite"),
    ],
)
def test_what_is_no_scan_is_refused(volume, message):
    with pytest.raises(ValueError, match=message):
        mid_slices(volume)


def test_a_picture_survives_its_way_into_the_page():
    image = np.random.default_rng(2).integers(0, 256, (7, 9)).astype(np.uint8)
    raw = base64.b64decode(png_uri(image).removeprefix("data:image/png;base64,"))
    length = int.from_bytes(raw[33:37], "big")
    rows = np.frombuffer(zlib.decompress(raw[41 : 41 + length]), np.uint8).reshape(7, 10)
    np.testing.assert_array_equal(rows[:, 1:], image)
    assert not rows[:, 0].any()
    assert (int.from_bytes(raw[16:20], "big"), int.from_bytes(raw[20:24], "big")) == (9, 7)
    with pytest.raises(ValueError, match="height × width"):
        png_uri(image.astype(np.float64))


def test_planes_stand_side_by_side_with_a_gap():
    planes = np.full((3, 4, 5), 9, np.uint8)
    row = side_by_side(planes, gap=2)
    assert row.shape == (4, 19)
    assert not row[:, 5:7].any()
    assert side_by_side(planes, gap=0).shape == (4, 15)
