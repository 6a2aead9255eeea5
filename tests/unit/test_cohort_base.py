import numpy as np
import pytest

from privoxel.cohort.base import Covariates, Grid, ScanId
from privoxel.errors import CohortError
from privoxel.recipes.runs import cohort_content
from tests.conftest import make_cohort


def test_the_grids_of_the_paper_and_of_smaller_machines():
    assert Grid.mni(2).shape == (91, 109, 91)
    assert Grid.mni(4).shape == (40, 48, 40)
    assert Grid.mni(6).shape == (27, 32, 27)
    np.testing.assert_array_equal(Grid.mni(4).affine @ [0, 0, 0, 1], [-80, -112, -72, 1])
    with pytest.raises(CohortError, match="1 to 10 mm"):
        Grid.mni(0.2)


def test_a_participant_keeps_all_sessions():
    cohort = make_cohort(5, sessions=3)
    assert len(cohort) == 15
    assert cohort.covariates.participants == ("000", "001", "002", "003", "004")
    np.testing.assert_array_equal(cohort.rows_of(["003", "001"]), [3, 4, 5, 9, 10, 11])
    np.testing.assert_array_equal(cohort.covariates.participant_index, np.repeat(np.arange(5), 3))


def test_a_selection_is_the_same_scans(tiny_cohort):
    chosen = tiny_cohort.select([5, 2])
    assert chosen.covariates.scans == (tiny_cohort.covariates.scans[5], tiny_cohort.covariates.scans[2])
    np.testing.assert_array_equal(chosen.volume(1), tiny_cohort.volume(2))
    np.testing.assert_array_equal(chosen.batch([0])[0, 0], tiny_cohort.volume(5))
    assert chosen.fingerprint != tiny_cohort.fingerprint


def test_a_mask_of_another_length_is_refused(tiny_cohort):
    with pytest.raises(ValueError, match="needs shape"):
        tiny_cohort.select(np.ones(3, dtype=bool))


def test_the_same_scan_twice_is_refused():
    scan = ScanId("a")
    with pytest.raises(CohortError, match="distinct scans"):
        Covariates((scan, scan), np.zeros(2), np.array(["", ""]), np.array(["", ""]))


def test_the_name_of_a_scan_is_its_bids_name():
    assert str(ScanId("07", "2", "alt")) == "sub-07_ses-2_rec-alt"


def test_repr_tells_size_units_and_span(tiny_cohort):
    text = repr(tiny_cohort)
    for part in ("24 participants", "24 scans", "8×10×9 at 20 mm", "years"):
        assert part in text


def test_further_numbers_follow_their_scans(tiny_cohort):
    cohort = tiny_cohort.with_columns({"tiv": np.arange(24)}).with_columns({"education": [12.0] * 24})
    chosen = cohort.select([5, 2]).covariates
    assert list(chosen.columns) == ["tiv", "education"]
    np.testing.assert_array_equal(chosen.columns["tiv"], [5.0, 2.0])
    assert not tiny_cohort.covariates.columns
    with pytest.raises(CohortError, match=r"one tiv for each of 24 scans, got shape \(3,\)"):
        tiny_cohort.with_columns({"tiv": [1, 2, 3]})


def test_further_numbers_are_part_of_what_a_run_was_made_of(tiny_cohort):
    plain, one = cohort_content(tiny_cohort), cohort_content(tiny_cohort.with_columns({"tiv": np.zeros(24)}))
    other = cohort_content(tiny_cohort.with_columns({"tiv": np.arange(24)}))
    assert len({plain, one, other}) == 3
    assert cohort_content(tiny_cohort.with_columns({})) == plain
