"""What every cohort keeps, whatever its source: inherit ``CohortContract`` and give a ``cohort``."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from privoxel.cohort.base import Cohort
from privoxel.cohort.bids import load_cohort
from privoxel.cohort.cache import cache_volumes
from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort
from tests.niftis import GRID, blob, image_path, write_bids, write_image, write_lines


class CohortContract:
    """Tests of a cohort of at least three scans."""

    tolerance = 1e-4

    @pytest.fixture
    def cohort(self, tmp_path) -> Cohort:
        raise NotImplementedError

    def test_volumes_are_single_precision_on_the_grid(self, cohort):
        for row in range(3):
            volume = cohort.volume(row)
            assert volume.dtype == np.float32
            assert volume.shape == cohort.grid.shape
            assert np.isfinite(volume).all()

    def test_volumes_have_mean_0_and_sd_1(self, cohort):
        for row in range(3):
            volume = cohort.volume(row).astype(np.float64)
            assert volume.mean() == pytest.approx(0, abs=self.tolerance)
            assert volume.std() == pytest.approx(1, abs=self.tolerance)

    def test_scans_differ(self, cohort):
        assert np.abs(cohort.volume(0) - cohort.volume(1)).max() > 0.1

    def test_volumes_are_repeatable_in_any_order_and_thread(self, cohort):
        once = [cohort.volume(row) for row in range(3)]
        with ThreadPoolExecutor(2) as pool:
            again = list(pool.map(cohort.volume, (2, 1, 0)))
        for first, second in zip(once, reversed(again), strict=True):
            np.testing.assert_array_equal(first, second)

    def test_a_volume_is_the_callers_to_change(self, cohort):
        before = cohort.volume(1)
        cohort.volume(1)[:] = 7
        np.testing.assert_array_equal(cohort.volume(1), before)

    def test_batches_hold_the_volumes_with_a_channel(self, cohort):
        batch = cohort.batch([2, 0])
        assert batch.dtype == np.float32
        assert batch.shape == (2, 1, *cohort.grid.shape)
        np.testing.assert_array_equal(batch[0, 0], cohort.volume(2))
        np.testing.assert_array_equal(batch[1, 0], cohort.volume(0))

    def test_pickles_to_the_same_cohort(self, cohort):
        copy = pickle.loads(pickle.dumps(cohort))  # noqa: S301 - our own bytes
        assert copy.fingerprint == cohort.fingerprint
        assert copy.covariates.scans == cohort.covariates.scans
        np.testing.assert_array_equal(copy.volume(1), cohort.volume(1))

    def test_a_selection_keeps_scan_age_and_volume_together(self, cohort):
        chosen = cohort.select([2, 1])
        assert chosen.covariates.scans == (cohort.covariates.scans[2], cohort.covariates.scans[1])
        np.testing.assert_array_equal(chosen.covariates.age, cohort.covariates.age[[2, 1]])
        np.testing.assert_array_equal(chosen.volume(0), cohort.volume(2))
        np.testing.assert_array_equal(chosen.batch([1])[0, 0], cohort.volume(1))
        assert chosen.fingerprint != cohort.fingerprint

    def test_history_and_names_are_told(self, cohort):
        assert cohort.history
        assert cohort.name
        assert "sub-" not in cohort.fingerprint

    def test_covariates_are_aligned_and_ages_are_years(self, cohort):
        assert len(cohort) == len(cohort.covariates.scans) == len(cohort.source)
        assert ((cohort.covariates.age >= 0) & (cohort.covariates.age <= 120)).all()
        assert set(cohort.covariates.sex.tolist()) <= {"F", "M", ""}


class TestBidsCohort(CohortContract):
    @pytest.fixture
    def cohort(self, tmp_path):
        return load_cohort(write_bids(tmp_path), grid=GRID)


class TestSessionsCohort(CohortContract):
    @pytest.fixture
    def cohort(self, tmp_path):
        for i, session in enumerate(("a", "b")):
            for j, participant in enumerate(("01", "02")):
                write_image(image_path(tmp_path, participant, session=session), blob(10 * i + j))
        write_lines(tmp_path / "participants.tsv", "participant_id\tage", "sub-01\t60", "sub-02\t70")
        return load_cohort(tmp_path, grid=GRID)


class TestTableCohort(CohortContract):
    @pytest.fixture
    def cohort(self, tmp_path):
        for i in range(3):
            write_image(tmp_path / f"{i}.nii", blob(i))
        lines = [f"{i}.nii,{50 + i}" for i in range(3)]
        return load_cohort(write_lines(tmp_path / "t.csv", "path,age", *lines), grid=GRID)


class TestCachedCohort(CohortContract):
    tolerance = 2e-3

    @pytest.fixture
    def cohort(self, tmp_path):
        return cache_volumes(load_cohort(write_bids(tmp_path / "b"), grid=GRID), folder=tmp_path / "c")


class TestSelectedCohort(CohortContract):
    tolerance = 2e-3

    @pytest.fixture
    def cohort(self, tmp_path):
        whole = load_cohort(write_bids(tmp_path / "b", ["01", "02", "03", "04"]), grid=GRID)
        return cache_volumes(whole, folder=tmp_path / "c").select([3, 0, 2])


class TestSimulatedCohort(CohortContract):
    @pytest.fixture
    def cohort(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PRIVOXEL_CACHE", str(tmp_path))
        return simulate_cohort(SimulatorConfig(seed=7, resolution_mm=6.0), 3)
