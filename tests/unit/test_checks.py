from dataclasses import replace

import numpy as np
import pytest

from privoxel.cohort.bids import load_cohort
from privoxel.cohort.checks import check_cohort
from tests.conftest import make_cohort
from tests.niftis import GRID, blob, image_path, write_bids, write_image, write_lines

MNI = "_space-MNI152NLin2009aSym_desc-brain"


def test_a_sound_cohort_is_summarised(tmp_path):
    check = check_cohort(load_cohort(write_bids(tmp_path), grid=GRID))
    assert check.is_sound
    assert (check.n_participants, check.n_scans) == (3, 3)
    assert check.ages == pytest.approx((42, np.sqrt(2 / 3), 41, 43))
    assert check.sexes == {"F": 2, "M": 1}
    assert check.sites == {"A": 2, "B": 1}
    assert len(check.warnings) == 2
    assert "too few scans to tell" in check.warnings[0]
    assert "2 sites" in check.warnings[1]


def test_participants_are_counted_once_whatever_their_sessions():
    cohort = make_cohort(7, sessions=3)
    check = check_cohort(cohort, workers=2)
    assert (check.n_participants, check.n_scans) == (7, 21)
    assert sum(check.sites.values()) == 7
    assert check.ages.mean == pytest.approx(cohort.covariates.age[::3].mean())


def test_problems_of_tables_headers_and_voxels_are_listed_together(tmp_path):
    folder = write_bids(tmp_path, ["01", "02", "03", "04"])
    write_lines(
        folder / "participants.tsv",
        "participant_id\tage",
        "sub-01\t41",
        "sub-02\t42",
        "sub-03\t43",
        "sub-04\t",
    )
    write_image(image_path(folder, "02", entities=MNI), np.stack([blob(1)] * 2, axis=-1))
    write_image(image_path(folder, "03", entities=MNI), np.full((15, 19, 18), 7.0))
    check = check_cohort(load_cohort(folder, grid=GRID, skip_bad=True))
    assert [(p.participant, p.what) for p in check.problems] == [
        ("04", "has no age"),
        ("02", "has 4 dimensions, not 3"),
        ("03", "is constant"),
    ]
    assert not check.is_sound


def test_one_image_under_two_names_is_a_problem(tmp_path):
    folder = write_bids(tmp_path, ["01", "02", "03", "04"])
    write_image(image_path(folder, "04", entities=MNI), blob(1))
    problems = check_cohort(load_cohort(folder, grid=GRID)).problems
    assert len(problems) == 1
    assert problems[0].where == f"sub-02/anat/sub-02{MNI}_T1w.nii.gz"
    assert f"same image as sub-04/anat/sub-04{MNI}_T1w.nii.gz" in problems[0].what


def test_a_repeated_image_of_one_participant_is_a_warning(tmp_path):
    folder = write_bids(tmp_path, ["01"])
    write_image(image_path(folder, "01", entities="_rec-alt" + MNI), blob(0))
    check = check_cohort(load_cohort(folder, grid=GRID))
    assert check.is_sound
    assert any("more than once for the same participant" in warning for warning in check.warnings)


def test_missing_covariates_and_an_unstated_space_are_warned_of(tmp_path):
    for i, name in enumerate(("sub-01", "sub-02")):
        write_image(image_path(tmp_path, name.removeprefix("sub-")), blob(i))
    write_lines(tmp_path / "participants.tsv", "participant_id\tage\tsex", "sub-01\t40\tF", "sub-02\t50\tn/a")
    warnings = " ".join(check_cohort(load_cohort(tmp_path, grid=GRID)).warnings)
    assert "1 of 2 scans are of unknown sex" in warnings
    assert "2 of 2 scans are of an unknown site" in warnings
    assert "must be registered to MNI152; their names say: space unstated" in warnings


def test_progress_counts_every_scan_and_a_wrong_shape_is_found():
    steps = []
    cohort = make_cohort(5)
    wrong = replace(cohort, grid=replace(cohort.grid, shape=(7, 8, 9)))
    check = check_cohort(wrong, progress=steps.append)
    assert steps == [1] * 5
    assert {p.what for p in check.problems} == {"has shape (8, 10, 9), not (7, 8, 9)"}
