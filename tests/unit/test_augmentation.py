from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from privoxel.errors import SignalError
from privoxel.models import ModelSpec, build_model
from privoxel.progress import Silent
from privoxel.signals.augmentation import (
    Augmentation,
    Copies,
    copies_of,
    extract_augmented,
    noisy,
    rotated,
    shifted,
)
from privoxel.signals.extract import open_table
from privoxel.training.loop import save_weights
from tests.conftest import make_cohort

COHORT = make_cohort(5)
VOLUMES = torch.from_numpy(COHORT.batch(np.arange(5)))
ALL = Augmentation(kinds=tuple(Copies))


def make_model(seed):
    spec = ModelSpec("cnn3d", width=0.125, head="scaled", scale=70.0)
    return build_model(spec, COHORT.grid.shape, 62.0, seed)


def extracted(tmp_path, augmentation=ALL):
    paths = []
    for seed in (1, 2):
        paths.append(tmp_path / f"epoch-{seed}.safetensors")
        save_weights(make_model(seed), paths[-1])
    folder = tmp_path / "signals"
    files = extract_augmented(make_model(0), paths, COHORT, augmentation, folder=folder, progress=Silent())
    table = open_table(
        folder,
        covariates=COHORT.covariates,
        model="cnn3d",
        snapshots=["1", "2"],
        membership=np.zeros(5, dtype=np.int8),
    )
    return files, table


def test_predictions_are_those_of_one_copy_of_one_scan_at_a_time(tmp_path):
    _, table = extracted(tmp_path, replace(ALL, batch_size=3))
    for snapshot, seed in enumerate((1, 2)):
        model = make_model(seed).eval()
        for kind in Copies:
            found = table.read(f"augmented:{kind}", snapshot=snapshot)
            for row in range(5):
                copies = copies_of(VOLUMES[row : row + 1], [COHORT.covariates.scans[row]], kind, ALL)
                with torch.no_grad():
                    slow = [model(copy).item() for copy in copies]
                np.testing.assert_allclose(found[row], slow, rtol=1e-5)


def test_files_hold_scans_by_copies_in_float32(tmp_path):
    files, _ = extracted(tmp_path, Augmentation())
    assert set(files) == {"augmented:shift"}
    stored = np.load(files["augmented:shift"])
    assert stored.shape == (1, 2, 5, 6)
    assert stored.dtype == np.float32


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("step", [-1, 1])
def test_a_shift_moves_every_voxel_by_one_and_repeats_the_face(axis, step):
    volume = VOLUMES[0, 0].numpy()
    slow = np.empty_like(volume)
    for index in np.ndindex(volume.shape):
        source = list(index)
        source[axis] = min(max(source[axis] - step, 0), volume.shape[axis] - 1)
        slow[index] = volume[tuple(source)]
    np.testing.assert_array_equal(shifted(VOLUMES, axis, step)[0, 0].numpy(), slow)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [-7.0, 30.0])
def test_a_rotation_is_that_of_voxels_about_the_middle(axis, degrees):
    volume = VOLUMES[1, 0].numpy().astype(np.float64)
    first, second = [a for a in range(3) if a != axis]
    angle = np.deg2rad(degrees)
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    middle = (np.array(volume.shape) - 1) / 2
    slow = affine_transform(volume, matrix, middle - matrix @ middle, order=1, mode="nearest")
    np.testing.assert_allclose(rotated(VOLUMES, axis, degrees)[1, 0].numpy(), slow, atol=1e-4)


def test_noise_has_the_asked_for_size_and_depends_on_scan_seed_and_copy_only():
    scans = list(COHORT.covariates.scans)
    setting = Augmentation(noise=0.2, seed=4)
    together = noisy(VOLUMES, scans, 1, setting)
    alone = noisy(VOLUMES[3:4], scans[3:4], 1, setting)
    torch.testing.assert_close(together[3:4], alone)
    ratio = (together - VOLUMES).flatten(1).std(dim=1) / VOLUMES.flatten(1).std(dim=1)
    np.testing.assert_allclose(ratio.numpy(), 0.2, rtol=0.15)
    assert not torch.equal(together, noisy(VOLUMES, scans, 2, setting))
    assert not torch.equal(together, noisy(VOLUMES, scans, 1, replace(setting, seed=5)))


def test_a_prediction_that_is_not_finite_is_an_error_naming_the_row(tmp_path):
    values = COHORT.batch(np.arange(5))[:, 0].copy()
    values[3] = np.nan
    broken = replace(COHORT, source=type(COHORT.source)(values))
    path = tmp_path / "weights.safetensors"
    save_weights(make_model(1), path)
    with pytest.raises(SignalError, match=r"augmented:shift needs finite values.*rows \[3\]"):
        extract_augmented(
            make_model(1), [path], broken, Augmentation(), folder=tmp_path / "s", progress=Silent()
        )
