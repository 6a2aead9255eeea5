import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

import nibabel as nib
import numpy as np
import pytest

from privoxel.cohort.base import Cohort
from privoxel.cohort.bids import load_cohort
from privoxel.cohort.cache import CachedSource, cache_volumes, cached_size
from privoxel.errors import ProblemsError, StoreError
from tests.conftest import make_cohort
from tests.niftis import GRID, blob, image_path, write_bids, write_image

MNI = "_space-MNI152NLin2009aSym_desc-brain"


@dataclass(frozen=True)
class Stopping:
    """A source that fails like an interrupt at one row, and counts nothing."""

    inner: object
    stop_at: int

    def __len__(self):
        return len(self.inner)

    def volume(self, row):
        if row == self.stop_at:
            raise KeyboardInterrupt
        return self.inner.volume(row)


@dataclass(frozen=True)
class Forbidden:
    """A source that must not be read."""

    length: int

    def __len__(self):
        return self.length

    def volume(self, row):
        raise AssertionError(row)


def with_source(cohort: Cohort, source) -> Cohort:
    return replace(cohort, source=source)


def spoiled(folder):
    """Write five participants of whom three have voxels that cannot be used."""
    write_bids(folder, ["01", "02", "03", "04", "05"])
    hole = blob(2)
    hole[3, 4, 5] = np.nan
    write_image(image_path(folder, "02", entities=MNI), hole)
    write_image(image_path(folder, "03", entities=MNI), np.full((15, 19, 18), 7.0))
    cut = image_path(folder, "05", entities=MNI)
    cut.write_bytes(cut.read_bytes()[:2000])
    return load_cohort(folder, grid=GRID)


def test_cached_volumes_are_the_volumes_in_half_precision(tmp_path):
    cohort = make_cohort(11)
    cached = cache_volumes(cohort, folder=tmp_path)
    for row in range(11):
        expected = cohort.volume(row).astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(cached.volume(row), expected)
        assert cached.volume(row).dtype == np.float32
    assert cached.fingerprint == cohort.fingerprint
    assert cached.covariates is cohort.covariates


def test_batches_of_a_selection_are_its_volumes_in_order(tmp_path):
    cached = cache_volumes(make_cohort(11), folder=tmp_path)
    chosen = cached.select([7, 2, 9]).select([2, 0])
    batch = chosen.batch([1, 0, 1])
    assert batch.shape == (3, 1, *cached.grid.shape)
    for k, row in enumerate((7, 9, 7)):
        np.testing.assert_array_equal(batch[k, 0], cached.volume(row))
    assert chosen.batch([]).shape == (0, 1, *cached.grid.shape)


def test_every_half_becomes_the_single_that_numpy_makes_of_it(tmp_path):
    bits = np.arange(2**16, dtype=np.uint16).reshape(1, 32, 64, 32)
    np.save(tmp_path / "halves.npy", bits.view(np.float16))
    values = CachedSource(tmp_path / "halves.npy", 1).volume(0)
    np.testing.assert_array_equal(values, bits.view(np.float16)[0].astype(np.float32))


def test_the_second_call_reads_nothing(tmp_path):
    cohort = make_cohort(7)
    first = cache_volumes(cohort, folder=tmp_path)
    second = cache_volumes(with_source(cohort, Forbidden(7)), folder=tmp_path)
    np.testing.assert_array_equal(first.volume(3), second.volume(3))
    assert cache_volumes(second, folder=tmp_path) is second


def test_the_file_depends_on_cohort_grid_and_history(tmp_path):
    cohort = make_cohort(5)
    variants = [
        cohort,
        replace(cohort, fingerprint="another"),
        replace(cohort, history=("another",)),
        replace(cohort, grid=replace(cohort.grid, voxel_mm=19.0)),
    ]
    paths = {cache_volumes(variant, folder=tmp_path).source.path for variant in variants}
    assert len(paths) == 4


def test_neither_names_nor_contents_of_the_files_tell_a_participant(tmp_path):
    folder = tmp_path / "brains"
    write_bids(folder, ["secretname", "02"])
    write_image(image_path(folder, "secretname", entities=MNI), np.full((15, 19, 18), 7.0))
    cache_volumes(load_cohort(folder, grid=GRID), folder=tmp_path / "c", skip_bad=True)
    written = list((tmp_path / "c").iterdir())
    assert len(written) == 2
    assert not any("secretname" in path.name or b"secretname" in path.read_bytes() for path in written)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700


def test_a_cached_cohort_pickles_as_a_path_and_reads_in_another_process(tmp_path):
    cached = cache_volumes(make_cohort(7), folder=tmp_path)
    cached.volume(0)
    assert len(pickle.dumps(cached.source)) < 500
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        elsewhere = pool.submit(cached.volume, 4).result()
    np.testing.assert_array_equal(elsewhere, cached.volume(4))


def test_all_bad_volumes_are_reported_at_once(tmp_path):
    cohort = spoiled(tmp_path / "brains")
    for _ in range(2):  # the second time from what the first has written
        with pytest.raises(ProblemsError, match="3 found") as error:
            cache_volumes(cohort, folder=tmp_path / "c")
        found = {p.participant: p.what for p in error.value.problems}
        assert found == {
            "02": "has 1 voxels that are not finite",
            "03": "is constant",
            "05": "cannot be read (EOFError)",
        }
        assert all(p.where.startswith(f"sub-{p.participant}/anat/") for p in error.value.problems)


def test_skipping_bad_volumes_keeps_the_rest_and_says_so(tmp_path):
    cohort = spoiled(tmp_path / "brains")
    for _ in range(2):
        cached = cache_volumes(cohort, folder=tmp_path / "c", skip_bad=True)
        assert cached.covariates.participants == ("01", "04")
        assert [p.participant for p in cached.problems] == ["02", "03", "05"]
        np.testing.assert_allclose(cached.batch([1])[0, 0], cohort.volume(3), atol=2e-3)


def test_a_volume_that_became_readable_is_written_again(tmp_path):
    cohort = spoiled(tmp_path / "brains")
    cache_volumes(cohort, folder=tmp_path / "c", skip_bad=True)
    for participant in ("02", "03", "05"):
        write_image(image_path(tmp_path / "brains", participant, entities=MNI), blob(int(participant)))
    cached = cache_volumes(cohort, folder=tmp_path / "c")
    assert len(cached) == 5
    assert all(cached.volume(row).std() > 0.9 for row in range(5))


@pytest.mark.parametrize("workers", [1, 3])
def test_an_interrupted_write_leaves_nothing(tmp_path, workers):
    cohort = make_cohort(11)
    stopping = with_source(cohort, Stopping(cohort.source, 6))
    with pytest.raises(KeyboardInterrupt):
        cache_volumes(stopping, folder=tmp_path, workers=workers)
    assert list(tmp_path.iterdir()) == []
    assert len(cache_volumes(cohort, folder=tmp_path, workers=workers)) == 11


def test_a_file_cut_short_is_made_again(tmp_path):
    cohort = make_cohort(5)
    path = cache_volumes(cohort, folder=tmp_path).source.path
    path.write_bytes(path.read_bytes()[:-1000])
    np.testing.assert_allclose(cache_volumes(cohort, folder=tmp_path).volume(4), cohort.volume(4), atol=2e-3)


def test_a_cache_that_is_gone_is_explained(tmp_path):
    cached = cache_volumes(make_cohort(5), folder=tmp_path / "c")
    shutil.rmtree(tmp_path / "c")
    with pytest.raises(StoreError, match="need a complete file"):
        cached.volume(0)


def test_progress_counts_every_scan(tmp_path):
    steps = []
    cache_volumes(make_cohort(11), folder=tmp_path, progress=steps.append, workers=3)
    assert steps == [1] * 11


def test_threads_do_not_change_a_byte(tmp_path):
    cohort = load_cohort(write_bids(tmp_path / "brains", [f"{i:02d}" for i in range(9)]), grid=GRID)
    files = [cache_volumes(cohort, folder=tmp_path / str(n), workers=n).source.path for n in (1, 4)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_too_little_room_is_said_before_writing(tmp_path, monkeypatch):
    cohort = make_cohort(5)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    assert cached_size(cohort) == 5 * 8 * 10 * 9 * 2
    with pytest.raises(StoreError, match=r"tiny needs 0 MB in .*, got 0 MB free"):
        cache_volumes(cohort, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_explained(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="Caching needs to write"):
        cache_volumes(make_cohort(5), folder=tmp_path / "file")


def test_values_too_large_for_half_precision_are_a_problem(tmp_path):
    cohort = make_cohort(5)
    cohort.source.values[3, 0, 0, 0] = 7e4
    with pytest.raises(ProblemsError, match="sub-003: has values beyond 60000"):
        cache_volumes(cohort, folder=tmp_path)


def test_a_scaled_integer_image_is_read_in_its_units(tmp_path):
    folder = write_bids(tmp_path / "brains", ["01"])
    image = nib.load(image_path(folder, "01", entities=MNI))
    before = load_cohort(folder, grid=GRID).volume(0)
    scaled = nib.Nifti1Image(image.get_fdata(), image.affine)
    scaled.set_data_dtype(np.int16)
    nib.save(scaled, image_path(folder, "01", entities=MNI))
    np.testing.assert_allclose(load_cohort(folder, grid=GRID).volume(0), before, atol=1e-3)
