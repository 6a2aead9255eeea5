"""Several data sets as one cohort."""

from dataclasses import replace

import numpy as np
import pytest

from privoxel.cohort.base import Grid
from privoxel.cohort.joined import join_cohorts
from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort
from privoxel.errors import CohortError

A = replace(simulate_cohort(SimulatorConfig(seed=1, resolution_mm=10.0), 3), name="a")
B = replace(simulate_cohort(SimulatorConfig(seed=2, resolution_mm=10.0), 2), name="b")


def test_rows_follow_one_data_set_after_the_other():
    both = join_cohorts([A, B])
    assert len(both) == 5
    assert both.covariates.participants[0] == f"a.{A.covariates.participants[0]}"
    np.testing.assert_array_equal(both.covariates.age, [*A.covariates.age, *B.covariates.age])
    np.testing.assert_array_equal(both.batch([4, 1])[:, 0], [B.volume(1), A.volume(1)])


def test_participants_of_one_name_stay_two_people():
    names = join_cohorts([A, B]).covariates.participants
    assert len(set(names)) == 5


def test_a_scan_without_a_site_takes_the_name_of_its_data_set():
    blank = replace(A, covariates=replace(A.covariates, site=np.array(["", "x", ""])))
    assert join_cohorts([blank, B]).covariates.site[:3].tolist() == ["a", "x", "a"]


def test_a_single_data_set_is_left_as_it_is():
    assert join_cohorts([A]) is A


def test_another_grid_and_a_repeated_name_are_told_together():
    other = replace(A, grid=Grid.mni(9))
    with pytest.raises(CohortError, match=r"one voxel grid.*different names, got a twice"):
        join_cohorts([A, other])


def test_a_further_column_that_one_data_set_lacks_is_not_known_there():
    columns = join_cohorts([A.with_columns({"tiv": [1, 2, 3]}), B]).covariates.columns
    np.testing.assert_array_equal(columns["tiv"], [1, 2, 3, np.nan, np.nan])
