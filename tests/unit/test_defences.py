"""Each defence does what it says, by seeded draws that a resumed training repeats."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from privoxel.cohort.base import ScanId
from privoxel.config import TrainingConfig, parse_config
from privoxel.defence_config import AugmentationConfig, DefenceConfig, DistillationConfig
from privoxel.errors import ConfigError, ModelError
from privoxel.models import ModelSpec, build_model
from privoxel.privacy_config import PrivacyConfig
from privoxel.progress import Silent
from privoxel.seeding import Streams, torch_stream
from privoxel.training.batch import Batch
from privoxel.training.defences.augmentation import Augmentation, moved, recoloured, rotations
from privoxel.training.defences.averaging import Averaged
from privoxel.training.defences.label_noise import LabelNoise
from privoxel.training.defences.mixup import Mixup
from privoxel.training.defences.projection import ProjectedSteps, shared_weights
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.loop import load_weights, predict_ages, train
from privoxel.training.reading import Reader
from privoxel.training.released import train_released
from privoxel.training.runtime import Runtime
from privoxel.training.steps import PlainSteps
from tests.conftest import make_cohort

COHORT = make_cohort(20)
PUBLIC = make_cohort(9, seed=77)
ROWS = np.arange(14)
VALIDATION = np.array([15, 18])  # predicted worse than those trained on from the first epoch to the last
SCALE = 55.0


def make_model(seed=1, dropout=0.5):
    spec = ModelSpec("cnn3d", width=0.125, head="scaled", dropout=dropout)
    return build_model(spec, COHORT.grid.shape, 62.0, seed)


def make_job(folder, defence=None, *, privacy=None, **training):
    settings = {"epochs": 4, "batch_size": 4, "learning_rate": 1e-3, "snapshot_every": 2, **training}
    folders = TrainingFolders(folder / "snapshots", folder / "state")
    return TrainingJob(
        TrainingConfig(**settings),
        Streams(5),
        folders,
        Runtime(),
        Silent(),
        privacy,
        DefenceConfig(**(defence or {})),
    )


def make_set(cohort=COHORT):
    return TrainingSet(cohort, ROWS, VALIDATION, SCALE)


def run(folder, defence=None, *, model=None, **settings):
    model = model or make_model()
    return model, train(model, make_set(), make_job(folder, defence, **settings))


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def make_batch(rows=(0, 3, 5), moment="1/0", cohort=COHORT):
    known = cohort.covariates
    volumes = torch.from_numpy(cohort.batch(np.array(rows)))
    ages = torch.tensor(known.age[list(rows)], dtype=torch.float32)
    return Batch(moment, tuple(known.scans[row] for row in rows), volumes, ages)


DEFENCES = {
    "mixup": {"mixup": 0.4},
    "label noise": {"label_noise": 4.0},
    "augmentation": {
        "augmentation": {"degrees": 5.0, "mm": 15.0, "gain": 0.1, "gamma": 0.1, "noise": 0.1},
    },
    "projection": {"keep_unique": 0.25},
    "pruning": {"sparsity": 0.7},
    "averaging": {"average_last": 3},
    "several": {"average_last": 2, "sparsity": 0.5, "mixup": 0.2, "label_noise": 1.0},
    "early stopping": {"stop_gap": 60.0},
}


def test_an_undefended_training_is_the_plain_loop_bit_for_bit(tmp_path):
    model, _ = run(tmp_path, {})
    twin, streams = make_model(), Streams(5)
    optimiser = torch.optim.Adam(twin.parameters(), lr=1e-3, weight_decay=1e-4, foreach=True)
    for epoch in range(1, 5):
        twin.train()
        order = streams.generator(f"order/{epoch}").permutation(ROWS)
        with torch_stream(streams.seed(f"dropout/{epoch}")):
            for start in range(0, len(order), 4):
                rows = order[start : start + 4]
                ages = torch.as_tensor(COHORT.covariates.age[rows], dtype=torch.float32)
                loss = (twin(torch.from_numpy(COHORT.batch(rows))) - ages).square().mean() / SCALE
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    assert torch.equal(weights_of(model), weights_of(twin))


@pytest.mark.parametrize("name", DEFENCES)
def test_a_defended_training_is_seeded_and_a_killed_one_continues_to_the_same_weights(name, tmp_path):
    defence = DEFENCES[name]
    whole, trained = run(tmp_path / "whole", defence)
    plain, _ = run(tmp_path / "plain")
    assert torch.equal(weights_of(whole), weights_of(plain)) == (name == "early stopping")

    class KilledError(Exception):
        pass

    calls = iter(range(10_000))

    class DyingCohort:
        grid, covariates = COHORT.grid, COHORT.covariates

        def batch(self, rows):
            if next(calls) >= 16:  # in the third epoch, after a snapshot
                raise KilledError
            return COHORT.batch(rows)

    job = make_job(tmp_path / "cut", defence)
    with pytest.raises(KilledError):
        train(make_model(), make_set(DyingCohort()), job)
    assert (job.folders.state / "training.pt").exists()
    resumed, again = run(tmp_path / "cut", defence, model=make_model(seed=99))
    assert torch.equal(weights_of(whole), weights_of(resumed))
    assert again.curve == trained.curve


@pytest.mark.parametrize("name", DEFENCES)
def test_what_was_done_is_written_beside_the_weights(name, tmp_path):
    _, trained = run(tmp_path, DEFENCES[name])
    assert set(DEFENCES[name]) <= set(trained.defence)
    assert trained.privacy == {}
    with safe_open(trained.snapshots[-1], "pt") as file:
        assert {f"defence.{key}" for key in trained.defence} == set(file.metadata())


# Augmentation


def test_a_turn_by_a_quarter_and_a_shift_are_exact_on_a_cube():
    rng = np.random.default_rng(1)
    volume = torch.from_numpy(rng.standard_normal((2, 1, 7, 7, 7)))
    angles = np.array([[math.pi / 2, 0, 0], [0, 0, math.pi / 2]])
    turned = moved(volume, angles, np.zeros((2, 3)))
    # what is at R (p − c): about x, y takes from −z; about z, x takes from −y
    torch.testing.assert_close(turned[0], torch.rot90(volume[0], -1, (2, 3)), atol=1e-9, rtol=0)
    torch.testing.assert_close(turned[1], torch.rot90(volume[1], -1, (1, 2)), atol=1e-9, rtol=0)
    shifted = moved(volume, np.zeros((2, 3)), np.array([[0.0, 2.0, 0.0], [0.0, 0.0, -1.0]]))
    torch.testing.assert_close(shifted[0, 0, :, :-2], volume[0, 0, :, 2:], atol=1e-9, rtol=0)
    torch.testing.assert_close(shifted[1, 0, ..., 1:], volume[1, 0, ..., :-1], atol=1e-9, rtol=0)


def test_a_rigid_motion_agrees_with_reading_voxel_by_voxel():
    rng = np.random.default_rng(2)
    shape = (7, 9, 8)
    volume = rng.standard_normal(shape)
    angles, shift = np.array([[0.11, -0.07, 0.2]]), np.array([[0.6, -1.3, 0.4]])
    found = moved(torch.from_numpy(volume[None, None]), angles, shift)[0, 0].numpy()
    middle, turn = (np.array(shape) - 1) / 2, rotations(angles)[0]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    for point in np.ndindex(shape):
        where = np.clip(turn @ (np.array(point) - middle) + middle + shift[0], 0, np.array(shape) - 1)
        low = np.minimum(np.floor(where).astype(int), np.array(shape) - 2)
        part, value = where - low, 0.0
        for corner in np.ndindex(2, 2, 2):
            share = np.prod(np.where(np.array(corner) == 1, part, 1 - part))
            value += share * volume[tuple(low + corner)]
        assert found[point] == pytest.approx(value, abs=1e-9)


def test_gain_and_power_act_on_what_lies_above_the_background():
    rng = np.random.default_rng(3)
    volume = rng.standard_normal((2, 1, 5, 7, 6))
    gain, gamma = np.array([[0.1, 0.2, -0.3, 0.05], [0, 0, 0, 0]]), np.array([0.2, -0.4])
    found = recoloured(torch.from_numpy(volume), gain, gamma).numpy()
    for scan in range(2):
        low = volume[scan].min()
        above = np.empty((5, 7, 6))
        for x, y, z in np.ndindex(5, 7, 6):
            log = gain[scan] @ [1, -1 + x / 2, -1 + y / 3, -1 + 2 * z / 5]
            above[x, y, z] = (volume[scan, 0, x, y, z] - low) * math.exp(log)
        expected = low + above.max() * (above / above.max()) ** math.exp(gamma[scan])
        np.testing.assert_allclose(found[scan, 0], expected, rtol=1e-9)
    same = recoloured(torch.from_numpy(volume), np.zeros((2, 4)), np.zeros(2)).numpy()
    np.testing.assert_allclose(same, volume, atol=1e-12)
    assert np.isfinite(recoloured(torch.ones(1, 1, 3, 4, 5), gain[:1], gamma[:1]).numpy()).all()


def test_an_augmented_scan_depends_on_the_update_and_itself_not_on_its_batch():
    settings = AugmentationConfig(degrees=4, mm=20, gain=0.1, gamma=0.1, noise=0.2)
    change = Augmentation(settings, 20.0, Streams(3))
    together, alone = change(make_batch()), change(make_batch((3,)))
    torch.testing.assert_close(together.volumes[1], alone.volumes[0])
    assert not torch.equal(together.volumes, change(make_batch(moment="1/1")).volumes)
    assert torch.equal(together.volumes, change(make_batch()).volumes)
    assert torch.equal(together.ages, make_batch().ages)


def test_motions_stay_within_their_limits():
    change = Augmentation(AugmentationConfig(degrees=4, mm=30), 20.0, Streams(3))
    draws = [change.draw("1/0", ScanId(str(k))) for k in range(200)]
    angles = np.degrees([draw.angles for draw in draws])
    shifts = 20.0 * np.array([draw.shift for draw in draws])
    assert 3.5 < np.abs(angles).max() <= 4
    assert 27 < np.abs(shifts).max() <= 30
    assert abs(angles.mean()) < 0.5


# Mixup and label noise


def test_mixup_blends_scans_and_ages_by_the_same_share():
    change, batch = Mixup(0.5, Streams(3)), make_batch((0, 3, 5, 8, 11))
    mixed = change(batch)
    rng = Streams(3).generator("1/0")
    partner, share = rng.permutation(5), rng.beta(0.5, 0.5, 5).tolist()
    for k in range(5):
        volume = share[k] * batch.volumes[k] + (1 - share[k]) * batch.volumes[partner[k]]
        age = share[k] * batch.ages[k] + (1 - share[k]) * batch.ages[partner[k]]
        torch.testing.assert_close(mixed.volumes[k], volume.float())
        torch.testing.assert_close(mixed.ages[k], age.float())
    assert not torch.equal(mixed.ages, change(replace(batch, moment="1/1")).ages)


def test_a_participants_age_is_always_wrong_by_the_same():
    cohort = make_cohort(40, sessions=2)
    change = LabelNoise(3.0, Streams(4))
    batch = make_batch(tuple(range(80)), cohort=cohort)
    first, later = change(batch), change(replace(batch, moment="9/3"))
    assert torch.equal(first.ages, later.ages)
    errors = (first.ages - batch.ages).reshape(40, 2)
    torch.testing.assert_close(errors[:, 0], errors[:, 1], atol=1e-4, rtol=0)
    assert 2.0 < float(errors[:, 0].std()) < 4.0


# Projection


def projected_mean(gradients, keep):
    """The twin: each gradient projected onto an orthonormal basis of the others, in float64."""
    total = np.zeros(gradients.shape[1])
    for k, gradient in enumerate(gradients):
        others = np.delete(gradients, k, axis=0)
        left, values, _ = np.linalg.svd(others.T, full_matrices=False)
        basis = left[:, values > 1e-9 * max(values.max(initial=0.0), 1e-300)]
        shared = basis @ (basis.T @ gradient)
        total += shared + keep * (gradient - shared)
    return total / len(gradients)


@pytest.mark.parametrize("keep", [0.0, 0.3])
@pytest.mark.parametrize(("scans", "weights"), [(5, 9), (5, 3), (2, 4), (1, 4)])
def test_what_is_left_of_gradients_is_their_projection_onto_the_others(scans, weights, keep):
    gradients = np.random.default_rng(scans + weights).standard_normal((scans, weights))
    if scans == 5:
        gradients[4] = gradients[1] - 2 * gradients[2]  # nothing unique in three of them
    share = shared_weights(torch.from_numpy(gradients @ gradients.T), keep).numpy()
    np.testing.assert_allclose(share @ gradients / scans, projected_mean(gradients, keep), atol=1e-7)


def test_scans_of_unlike_gradients_have_nothing_in_common():
    assert shared_weights(torch.eye(4, dtype=torch.float64), 0.0).abs().max() < 1e-12
    assert shared_weights(torch.zeros(3, 3, dtype=torch.float64), 0.0).tolist() == [0, 0, 0]


def test_a_projected_step_moves_by_the_mean_of_projected_gradients(tmp_path):
    model = make_model(dropout=0.0)
    job = make_job(tmp_path, {"keep_unique": 0.25}, optimiser="sgd", weight_decay=0.0, learning_rate=1e-2)
    rows = np.array([3, 0, 7])
    before = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    steps = ProjectedSteps(model, make_set(), job, keep=0.25)
    list(steps.batches(1))
    steps.update(rows)
    twin = make_model(dropout=0.0).double().eval()
    gradients = {name: [] for name in before}
    for row in rows:
        loss = (twin(torch.from_numpy(COHORT.batch([row])).double()) - COHORT.covariates.age[row]).square()
        found = torch.autograd.grad(loss.sum() / SCALE, list(twin.parameters()))
        for (name, _), gradient in zip(twin.named_parameters(), found, strict=True):
            gradients[name].append(gradient.flatten().numpy())
    largest = max(np.abs(np.stack(g)).max() for g in gradients.values())
    for name, parameter in model.named_parameters():
        moved_by = (before[name] - parameter.detach().double()).flatten().numpy() / 1e-2
        np.testing.assert_allclose(
            moved_by, projected_mean(np.stack(gradients[name]), 0.25), atol=5e-3 * largest, err_msg=name
        )


def test_to_keep_all_that_is_unique_is_to_train_plainly(tmp_path):
    plain, projected = make_model(dropout=0.0), make_model(dropout=0.0)
    settings = {"optimiser": "sgd", "learning_rate": 1e-3}
    PlainSteps(plain, make_set(), make_job(tmp_path, **settings)).update(ROWS[:5])
    almost = make_job(tmp_path, {"keep_unique": 0.999999}, **settings)
    steps = ProjectedSteps(projected, make_set(), almost, keep=1.0)
    list(steps.batches(1))
    steps.update(ROWS[:5])
    torch.testing.assert_close(weights_of(plain), weights_of(projected), rtol=1e-4, atol=1e-6)


# Pruning and averaging


def test_pruned_weights_are_as_few_as_asked_and_never_come_back(tmp_path):
    model, trained = run(tmp_path, {"sparsity": 0.7}, snapshot_every=1)
    zero = []
    for path in trained.snapshots:
        load_weights(model, path)
        zero.append(torch.cat([(p == 0).flatten() for p in model.parameters() if p.dim() > 1]))
    shares = [float(z.float().mean()) for z in zero]
    np.testing.assert_allclose(shares, [0.7 * (1 - (1 - t / 4) ** 3) for t in (1, 2, 3, 4)], atol=1e-3)
    assert all((later >= earlier).all() for earlier, later in itertools.pairwise(zero))
    assert float(trained.defence["zero_share"]) == pytest.approx(0.7, abs=1e-3)


def test_the_released_weights_are_the_mean_over_the_last_epochs(tmp_path):
    plain, _ = run(tmp_path / "plain", snapshot_every=1)
    ends = []
    for epoch in (2, 3, 4):
        load_weights(plain, tmp_path / "plain" / "snapshots" / f"epoch-{epoch:04d}.safetensors")
        ends.append(weights_of(plain).double())
    averaged, trained = run(tmp_path / "averaged", {"average_last": 3})
    torch.testing.assert_close(weights_of(averaged).double(), torch.stack(ends).mean(0), rtol=1e-6, atol=1e-7)
    assert trained.defence["averaged_epochs"] == "3"
    load_weights(plain, trained.snapshots[-1])
    assert torch.equal(weights_of(plain), weights_of(averaged))


def test_running_statistics_are_not_averaged_but_refused():
    with pytest.raises(ModelError, match=r"without running statistics, got 1.running_mean"):
        Averaged(None, nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2)), last=2, epochs=3)


# Early stopping


def gap_of(model):
    errors = [
        np.abs(
            predict_ages(model, COHORT, rows, batch_size=4, runtime=Runtime()) - COHORT.covariates.age[rows]
        )
        for rows in (VALIDATION, ROWS)
    ]
    return errors[0].mean() - errors[1].mean()


def test_training_stops_before_the_gap_exceeds_the_limit(tmp_path):
    settings = {"epochs": 12, "learning_rate": 3e-3}
    plain, trained = run(tmp_path / "plain", snapshot_every=1, **settings)
    gaps = []
    for path in trained.snapshots:
        load_weights(plain, path)
        gaps.append(gap_of(plain))
    limit = float(np.median(gaps))
    last = next(epoch for epoch, gap in enumerate(gaps, start=1) if gap > limit and epoch > 1) - 1
    stopped, ended = run(tmp_path / "stopped", {"stop_gap": limit}, snapshot_every=5, **settings)
    load_weights(plain, trained.snapshots[last - 1])
    assert torch.equal(weights_of(stopped), weights_of(plain))
    assert [point.epoch for point in ended.curve] == list(range(1, last + 1))
    assert ended.snapshots[-1].stem == f"epoch-{last:04d}"
    assert ended.defence["stopped"].startswith(f"after epoch {last}: gap")


def test_early_stopping_needs_someone_to_stop_for(tmp_path):
    nobody = TrainingSet(COHORT, ROWS, ROWS[:0], SCALE)
    with pytest.raises(ConfigError, match=r"stop_gap needs validation scans, got none"):
        train(make_model(), nobody, make_job(tmp_path, {"stop_gap": 1.0}))


# Distillation


def distil(folder, teacher=None, **defence):
    model = make_model()
    job = make_job(folder, {"distillation": DistillationConfig(epochs=3), **defence})
    trained = train_released(
        model, make_set(), job, public=PUBLIC, build=lambda _, seed: make_model(seed % 1000)
    )
    return model, trained, job


def test_a_student_learns_the_teachers_answers_on_public_scans_alone(tmp_path):
    student, trained, job = distil(tmp_path / "distilled")
    teacher, _ = run(tmp_path / "teacher")
    ages = predict_ages(teacher, PUBLIC, np.arange(9), batch_size=4, runtime=Runtime())
    streams = Streams(5).child("student")
    twin = make_model(streams.seed("initialisation") % 1000)
    public = replace(PUBLIC, covariates=replace(PUBLIC.covariates, age=ages))
    folders = TrainingFolders(tmp_path / "twin", tmp_path / "twin-state")
    twin_job = replace(make_job(tmp_path, epochs=3), streams=streams, folders=folders)
    everyone = np.arange(9)
    train(twin, TrainingSet(public, everyone, everyone[:0], float(np.var(ages))), twin_job)
    assert torch.equal(weights_of(student), weights_of(twin))
    assert [path.stem for path in trained.snapshots] == ["epoch-0002", "epoch-0003"]
    assert all(path.parent == job.folders.snapshots for path in trained.snapshots)
    load_weights(twin, trained.snapshots[-1])
    assert torch.equal(weights_of(student), weights_of(twin))
    assert "distillation" in trained.defence


def test_a_students_own_training_does_not_repeat_what_concerns_members(tmp_path):
    defence = DefenceConfig(
        label_noise=2.0, sparsity=0.5, distillation=DistillationConfig(), augmentation={"degrees": 2.0}
    )
    assert defence.of_student == DefenceConfig(sparsity=0.5, augmentation={"degrees": 2.0})
    _, trained, _ = distil(tmp_path, sparsity=0.5)
    assert float(trained.defence["zero_share"]) == pytest.approx(0.5, abs=1e-3)


def test_distillation_needs_public_scans(tmp_path):
    job = make_job(tmp_path, {"distillation": DistillationConfig()})
    with pytest.raises(ConfigError, match=r"Distillation needs public scans, got none"):
        train_released(make_model(), make_set(), job, public=None, build=lambda *_: make_model())


# With differential privacy


def private(folder, defence, **settings):
    pytest.importorskip("opacus")
    privacy = PrivacyConfig(noise_multiplier=1.0, randomness="seeded")
    return run(folder, defence, privacy=privacy, **settings)


@pytest.mark.parametrize("name", ["label noise", "augmentation", "pruning", "averaging"])
def test_defences_of_single_scans_and_of_weights_go_with_privacy(name, tmp_path):
    model, trained = private(tmp_path / "a", DEFENCES[name])
    again, _ = private(tmp_path / "b", DEFENCES[name])
    assert torch.equal(weights_of(model), weights_of(again))
    plain, _ = private(tmp_path / "c", {})
    assert not torch.equal(weights_of(model), weights_of(plain))
    assert trained.privacy["unit"] == "participant"
    assert set(DEFENCES[name]) <= set(trained.defence)


@pytest.mark.parametrize(
    ("defence", "reason"),
    [
        ({"mixup": 0.2}, "mixup puts a participant into two gradients"),
        ({"keep_unique": 0.0}, "depend on the others'"),
        ({"stop_gap": 1.0}, "stop_gap reads the members' errors"),
    ],
)
def test_defences_that_couple_members_are_refused_with_privacy(defence, reason, tmp_path):
    privacy = PrivacyConfig(noise_multiplier=1.0)
    with pytest.raises(ConfigError, match=reason):
        run(tmp_path, defence, privacy=privacy)
    settings = {"privacy": privacy.model_dump(exclude_none=True), "split": {"validation": 10}}
    with pytest.raises(ConfigError, match=reason):
        parse_config({**settings, "defence": defence})


def test_the_student_of_a_private_teacher_carries_what_was_spent(tmp_path):
    pytest.importorskip("opacus")
    job = make_job(
        tmp_path,
        {"distillation": DistillationConfig(epochs=1)},
        privacy=PrivacyConfig(noise_multiplier=1.0, randomness="seeded"),
    )
    trained = train_released(make_model(), make_set(), job, public=PUBLIC, build=lambda *_: make_model(3))
    with safe_open(trained.snapshots[-1], "pt") as file:
        assert file.metadata()["epsilon"] == trained.privacy["epsilon"]


# Configuration


@pytest.mark.parametrize(
    ("defence", "reason"),
    [
        ({"stop_gap": 1.0, "sparsity": 0.5}, "stop_gap ends before the last epoch"),
        ({"keep_unique": 0.0, "mixup": 0.5}, "mixup makes every scan two"),
        ({"average_last": 1}, "at least 2 epochs"),
        ({"release": {"clip_years": [80, 45]}}, "lowest prediction first"),
        ({"sparsity": 1.0}, "less than 1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_with_the_reason(defence, reason):
    with pytest.raises(ConfigError, match=reason):
        parse_config({"split": {"validation": 10}, "defence": defence})


def test_early_stopping_asks_for_a_validation_group():
    with pytest.raises(ConfigError, match=r"stop_gap needs \[split\] validation participants"):
        parse_config({"defence": {"stop_gap": 1.0}})


def test_public_brains_are_normalised_as_the_cohort():
    settings = {"cohort": {"kind": "real", "normalise": "brain"}, "defence": {"pretraining": {}}}
    with pytest.raises(ConfigError, match=r"public brains are normalised over all voxels"):
        parse_config(settings)


def test_nothing_is_done_where_nothing_is_asked():
    config = parse_config({})
    assert config.defences == DefenceConfig()
    assert "defence" not in config.to_dict()
    assert DefenceConfig().described == {}
    assert Reader(make_set(), make_job_without_folder()).read(ROWS[:3], "1/0").ages.tolist() == (
        COHORT.covariates.age[:3].astype(np.float32).tolist()
    )


def make_job_without_folder():
    return TrainingJob(TrainingConfig(), Streams(0), TrainingFolders(None, None), Runtime(), Silent())
