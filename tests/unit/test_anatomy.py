import multiprocessing
import stat
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from privoxel.cohort import anatomy
from privoxel.cohort.anatomy import FIELD_LATTICE, GROWTH_MM, MAP_LATTICE, load_maps
from privoxel.cohort.cachefolder import cache_folder
from privoxel.cohort.lattice import Lattice
from privoxel.errors import StoreError

LATTICE = Lattice((-3.0, 2.0, -5.0), 2.0, (7, 8, 9))


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVOXEL_CACHE", str(tmp_path))
    load_maps.cache_clear()
    yield tmp_path
    load_maps.cache_clear()


@pytest.fixture
def quick_derivation(monkeypatch):
    """Derivation replaced by the maps at hand: these tests are about the file."""
    maps = load_maps()
    arrays = {name: getattr(maps, name).astype(np.float16) for name in anatomy._SHAPES}
    calls = []
    monkeypatch.setattr(anatomy, "_load_templates", lambda: calls.append(1))
    monkeypatch.setattr(anatomy, "_derive", lambda _: arrays)
    return calls


def jacobian_determinants(displacement):
    slopes = [np.stack(np.gradient(component, FIELD_LATTICE.spacing_mm)) for component in displacement]
    jacobian = np.moveaxis(np.stack(slopes), (0, 1), (-2, -1)) + np.eye(3)
    return np.linalg.det(jacobian)


def twin_sample(channel, lattice, point):
    """Trilinear interpolation by eight corners in float64, clamped to the lattice."""
    at = (np.asarray(point, dtype=np.float64) - lattice.origin_mm) / lattice.spacing_mm
    at = np.clip(at, 0, np.array(lattice.shape) - 1)
    low = np.minimum(np.floor(at).astype(int), np.array(lattice.shape) - 2)
    total = 0.0
    for corner in np.ndindex(2, 2, 2):
        share = np.where(np.array(corner) == 1, at - low, 1 - (at - low)).prod()
        total += share * channel[tuple(low + corner)]
    return total


def test_sampling_agrees_with_eight_corners_by_hand(rng):
    channels = rng.standard_normal((2, *LATTICE.shape)).astype(np.float32)
    points = rng.uniform(-8, 18, (3, 50)).astype(np.float32)
    expected = [[twin_sample(channel, LATTICE, point) for point in points.T] for channel in channels]
    np.testing.assert_allclose(LATTICE.sample(channels, points), expected, atol=2e-5)


def test_sampling_the_lattice_s_own_points_returns_the_values(rng):
    channels = rng.standard_normal((1, *LATTICE.shape)).astype(np.float32)
    np.testing.assert_allclose(LATTICE.sample(channels, LATTICE.points())[0], channels.ravel(), atol=1e-5)


def test_ventricles_and_brain_have_a_person_s_volumes():
    maps = load_maps()
    millilitres = MAP_LATTICE.spacing_mm**3 / 1000
    hippocampi, ventricles = maps.landmarks.sum(axis=(1, 2, 3)) * millilitres
    grey, white, brain = maps.tissue[:3].sum(axis=(1, 2, 3)) * millilitres
    assert 20 < ventricles < 40
    assert 4 < hippocampi < 9
    assert 1500 < brain < 2000
    assert 1.2 < grey / white < 1.8


def test_tissue_shares_stay_between_nothing_and_the_brain():
    grey, white, brain = load_maps().tissue[:3]
    assert min(grey.min(), white.min()) >= 0
    assert (grey + white <= brain + 0.01).all()


def test_ventricular_growth_never_folds():
    lowest = [jacobian_determinants(field).min() for field in load_maps().growth]
    assert min(lowest) > 0.02


def test_ventricular_growth_moves_nothing_farther_than_7_mm():
    farthest = np.sqrt((load_maps().growth ** 2).sum(axis=1)).max()
    assert 5 < farthest <= 7


def test_ventricular_volume_rises_with_travel_over_the_range_of_old_age():
    log_volume = load_maps().log_volume[1]
    assert (np.diff(log_volume) > 0).all()
    assert log_volume[GROWTH_MM == 0] == pytest.approx(0, abs=0.01)
    assert log_volume[0] < np.log(0.5)
    assert log_volume[-1] > np.log(3)


def test_contraction_points_away_from_the_nearest_hippocampus():
    field = load_maps().contraction
    points = FIELD_LATTICE.points().reshape(3, *FIELD_LATTICE.shape)
    left = np.array([-26.0, -24.0, -14.0]).reshape(3, 1, 1, 1)
    near = np.sqrt(((points - left) ** 2).sum(axis=0)) < 6
    assert ((field * (points - left)).sum(axis=0)[near] >= 0).all()
    assert np.abs(field[:, np.abs(points[1]) > 70]).max() == 0


def test_the_ventricles_are_two_sided_and_whole():
    ventricles = load_maps().landmarks[1] > 0.5
    labels, count = ndimage.label(ventricles)
    sizes = np.sort(np.bincount(labels.ravel())[1:])
    assert count < 40
    assert sizes[-1] > 0.4 * sizes.sum()


def test_maps_read_from_the_cache_are_those_derived(quick_derivation, fresh_cache):
    derived = load_maps()
    load_maps.cache_clear()
    again = load_maps()
    assert len(quick_derivation) == 1
    assert derived.digest == again.digest
    np.testing.assert_array_equal(derived.growth, again.growth)


@pytest.mark.parametrize("damage", ["torn", "empty", "text", "other"])
def test_a_damaged_cache_file_is_derived_again(quick_derivation, fresh_cache, damage):
    expected = load_maps().digest
    (file,) = fresh_cache.glob("anatomy-*.npz")
    content = file.read_bytes()
    if damage == "other":
        np.savez(file, tissue=np.zeros(3))
    else:
        file.write_bytes(
            {"torn": content[: len(content) // 2], "empty": b"", "text": b"not an archive"}[damage]
        )
    load_maps.cache_clear()
    assert load_maps().digest == expected
    assert len(quick_derivation) == 2
    with np.load(file) as archive:
        assert set(archive) == set(anatomy._SHAPES)


def test_a_flipped_byte_in_the_cache_is_noticed(quick_derivation, fresh_cache):
    expected = load_maps().digest
    (file,) = fresh_cache.glob("anatomy-*.npz")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    load_maps.cache_clear()
    assert load_maps().digest == expected
    assert len(quick_derivation) == 2


def test_no_partial_file_is_left_behind(quick_derivation, fresh_cache):
    load_maps()
    assert [p.suffix for p in fresh_cache.iterdir()] == [".npz"]


def write_once(file):
    anatomy._write(Path(file), {"values": np.arange(200_000, dtype=np.float16)})


def test_processes_that_write_the_same_file_at_once_leave_one_whole_file(tmp_path):
    file = tmp_path / "anatomy-x.npz"
    workers = [
        multiprocessing.get_context("fork").Process(target=write_once, args=(str(file),)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with np.load(file) as archive:
        assert archive["values"].shape == (200_000,)
    assert list(tmp_path.iterdir()) == [file]


def test_the_file_name_changes_with_the_version_of_the_maps(monkeypatch):
    before = anatomy._make()
    monkeypatch.setattr(anatomy, "_VERSION", -1)
    assert anatomy._make() != before


def test_the_cache_folder_follows_the_environment_and_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("PRIVOXEL_CACHE", raising=False)
    assert cache_folder() == tmp_path / "xdg" / "privoxel"
    monkeypatch.setenv("PRIVOXEL_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o700
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("PRIVOXEL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "privoxel"


def test_a_cache_that_cannot_be_a_folder_is_explained(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PRIVOXEL_CACHE", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="Set PRIVOXEL_CACHE to one that is"):
        cache_folder()
