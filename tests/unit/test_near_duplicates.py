"""One person under two names is found, and nobody else."""

import numpy as np
import pytest
from scipy import ndimage

from privoxel.cohort.base import Grid
from privoxel.cohort.likeness import Fingerprints, coarsened, fingerprints, fit_likeness, nuisances
from privoxel.cohort.near_duplicates import likeness_limit, near_duplicates
from privoxel.cohort.overlap import find_overlap
from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort
from tests.conftest import ArrayVolumes, make_cohort


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def limit_by_loops(vectors, people):
    """Return the limit the slow way: all pairs, sorted, then the formula."""
    depths = []
    for i in range(len(vectors)):
        for j in range(i + 1, len(vectors)):
            if people[i] != people[j]:
                cosine = max(float(np.dot(vectors[i].astype(float), vectors[j].astype(float))), 0.0)
                depths.append(-np.log(1 - cosine**2))
    n, k = vectors.shape
    tail = sorted(depths)[-2 * n :]
    scale = (np.median(tail) - tail[0]) / np.log(2)
    measured = tail[0] + scale * np.log(2 * n / 0.001)
    random = 2 * (1 - k / n) / (k - 1) * np.log(n * (n - 1) / 2 / 0.001)
    return np.sqrt(1 - np.exp(-max(measured, random)))


def test_the_limit_is_that_of_the_slow_way(rng):
    vectors = unit(rng.standard_normal((37, 11)))
    people = np.repeat(np.arange(19), 2)[:37]
    assert likeness_limit(vectors, people) == pytest.approx(limit_by_loops(vectors, people), abs=1e-5)


def test_block_by_block_gives_the_same_limit_and_pairs(rng, monkeypatch):
    vectors = unit(rng.standard_normal((50, 40)))
    vectors[41] = vectors[3]
    prints = Fingerprints(tuple(map(str, range(50))), vectors)
    whole = near_duplicates(prints, np.arange(50))
    monkeypatch.setattr("privoxel.cohort.near_duplicates.BLOCK", 7)
    parts = near_duplicates(prints, np.arange(50))
    assert parts.limit == pytest.approx(whole.limit, abs=1e-6)
    for found in (whole, parts):
        assert [(pair.first, pair.second) for pair in found.pairs] == [(3, 41)]


def test_scans_that_cannot_be_read_take_no_part(rng):
    vectors = unit(rng.standard_normal((40, 12)))
    holes = np.insert(vectors, [5, 20], 0, axis=0)
    assert likeness_limit(holes, np.arange(42)) == pytest.approx(likeness_limit(vectors, np.arange(40)))


def test_few_scans_have_no_limit_and_identical_ones_are_still_found(rng):
    content = ("a", "b", "a", "", "", "b")
    prints = Fingerprints(content, unit(rng.standard_normal((6, 3))))
    found = near_duplicates(prints, np.array([0, 1, 2, 3, 4, 1]))
    assert found.limit is None
    assert [(pair.first, pair.second, pair.is_identical) for pair in found.pairs] == [(0, 2, True)]


def test_nuisances_are_orthonormal_and_hold_a_small_shift(rng):
    picture = ndimage.gaussian_filter(rng.standard_normal((17, 19, 18)), 2)
    mask = np.zeros(picture.shape, dtype=bool)
    mask[3:-3, 3:-3, 3:-3] = True
    basis = nuisances(picture, mask)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-10)
    for change in (ndimage.shift(picture, (0.1, -0.2, 0.1), order=3) - picture, 0.1 * picture + 0.3):
        left = change[mask] - basis @ (basis.T @ change[mask])
        assert np.linalg.norm(left) < 0.15 * np.linalg.norm(change[mask])


def test_weights_apply_the_projection_and_whitening_of_the_slow_way(rng):
    scans = [np.abs(rng.standard_normal((8, 9, 10))).astype(np.float32) + 1 for _ in range(12)]
    likeness = fit_likeness(scans)
    rows = np.stack([scan[likeness.mask] for scan in scans]).astype(np.float64)
    rows = (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)
    picture = np.zeros(likeness.mask.shape)
    picture[likeness.mask] = rows.mean(0)
    basis = nuisances(picture, likeness.mask)
    left = rows - rows.mean(0)
    left -= left @ basis @ basis.T
    lengths = np.linalg.norm(left, axis=1, keepdims=True)
    _, values, axes = np.linalg.svd(left / lengths, full_matrices=False)
    variance = values[:6] ** 2 / 12
    expected = unit(left @ axes[:6].T / np.sqrt(variance + 0.1 * variance.mean()))
    np.testing.assert_allclose(
        likeness.vectors(scans) @ likeness.vectors(scans).T, expected @ expected.T, atol=2e-3
    )


def test_coarse_voxels_are_means_above_the_background_smoothed():
    volume = np.full((9, 8, 11), 5.0, dtype=np.float32)
    volume[2:6, 2:6, 4:8] += np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    means = np.zeros((4, 4, 5))
    for i, j, k in np.ndindex(4, 4, 5):
        means[i, j, k] = volume[2 * i : 2 * i + 2, 2 * j : 2 * j + 2, 2 * k : 2 * k + 2].mean() - 5
    expected = ndimage.gaussian_filter(means, 0.7, mode="constant", truncate=3)
    np.testing.assert_allclose(coarsened(volume, 2), expected, atol=1e-4)


def test_each_scan_is_read_once_and_unusable_ones_are_passed_over(monkeypatch):
    monkeypatch.setattr("privoxel.cohort.likeness.SAMPLE", 5)
    monkeypatch.setattr("privoxel.cohort.likeness.BATCH", 3)
    cohort, read = make_cohort(13), []

    def volume(row):
        read.append(row)
        return None if row in {0, 7} else cohort.volume(row)

    prints = fingerprints(volume, 13, voxel_mm=20.0, workers=1)
    assert sorted(read) == list(range(13))
    assert [row for row in range(13) if prints.content[row] == ""] == [0, 7]
    assert np.linalg.norm(prints.vectors, axis=1).round(3).tolist() == [
        float(r not in {0, 7}) for r in range(13)
    ]


def test_no_scan_one_scan_and_equal_scans_break_nothing():
    cohort = make_cohort(1)
    assert fingerprints(cohort.volume, 0, voxel_mm=20.0).vectors.shape == (0, 0)
    assert fingerprints(cohort.volume, 1, voxel_mm=20.0).vectors.shape == (1, 0)
    equal = fingerprints(lambda row: cohort.volume(0 * row), 4, voxel_mm=20.0)
    assert np.isfinite(equal.vectors).all()
    assert len(near_duplicates(equal, np.arange(4)).pairs) == 3


def people_twice(n=40, copies=5):
    """Return simulated people of whom the last ``copies`` are other scans of the first, under new names."""
    config = SimulatorConfig(seed=11, resolution_mm=6.0, sessions=2)
    cohort = simulate_cohort(config, n)
    first = np.arange(0, 2 * n, 2)
    again = first[:copies] + 1
    volumes = np.stack([cohort.volume(int(row)) for row in (*first, *again)])
    tiny = make_cohort(n + copies)
    return volumes, tiny.covariates


def test_a_rescan_of_a_member_among_the_non_members_is_named_and_left_out():
    volumes, covariates = people_twice()
    volumes[42] = volumes[2]  # an identical copy
    cohort = make_cohort(45)
    cohort = type(cohort)("two", covariates, Grid.mni(6.0), ArrayVolumes(volumes), "two")
    names = covariates.participants
    states = {name: int(k < 20) for k, name in enumerate(names)}
    found = find_overlap(cohort, states, workers=1)
    assert found.left_out == ("040", "041", "042", "043", "044")
    assert [found.states[name] for name in names] == [1] * 20 + [0] * 20 + [-1] * 5
    assert "sub-002 (a member) and sub-042 (a non-member) hold the same voxels" in found.named
    assert any(
        line.startswith("sub-000 (a member) and sub-040 (a non-member) show one person")
        for line in found.named
    )
    assert found.notes[0].startswith("5 non-members are members under another name")
    assert not any("sub-" in note for note in found.notes)


def test_one_person_twice_in_one_group_is_counted_and_stays():
    volumes, covariates = people_twice(copies=1)
    cohort = make_cohort(41)
    cohort = type(cohort)("two", covariates, Grid.mni(6.0), ArrayVolumes(volumes), "two")
    states = {name: int(10 <= k < 40) for k, name in enumerate(covariates.participants)}
    found = find_overlap(cohort, states, workers=1)
    assert found.states == states
    assert found.notes == ("1 of the non-members are there a second time under another name.",)


def test_sessions_of_one_participant_are_no_duplicates():
    cohort = simulate_cohort(SimulatorConfig(seed=12, resolution_mm=6.0, sessions=2), 30)
    found = find_overlap(
        cohort, {name: k % 2 for k, name in enumerate(cohort.covariates.participants)}, workers=1
    )
    assert found.named == ()
    assert found.notes == ()
