import math

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from privoxel.cohort.base import Covariates, ScanId
from privoxel.config import TrainingConfig
from privoxel.errors import ConfigError, ModelError
from privoxel.models import ModelSpec, build_model
from privoxel.privacy_config import PrivacyConfig
from privoxel.progress import Silent
from privoxel.seeding import Streams
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.loop import train
from privoxel.training.private.checks import check_model
from privoxel.training.private.planning import check_plan, plan
from privoxel.training.private.randomness import make_randomness
from privoxel.training.private.steps import PrivateSteps
from privoxel.training.runtime import Runtime
from tests.conftest import make_cohort

COHORT = make_cohort(20)
ROWS = np.arange(14)
SCALE = 55.0


def make_model(name="cnn3d", *, seed=1, dropout=0.0):
    spec = ModelSpec(name, width=0.125, head="scaled", dropout=dropout)
    return build_model(spec, COHORT.grid.shape, 62.0, seed)


def make_job(folder, *, privacy=None, cohort=COHORT, **training):
    config = TrainingConfig(**{"epochs": 2, "batch_size": 4, "learning_rate": 1e-2, **training})
    folders = TrainingFolders(folder / "snapshots", folder / "state")
    privacy = PrivacyConfig(**{"noise_multiplier": 0.0, "randomness": "seeded", **(privacy or {})})
    return TrainingJob(config, Streams(5), folders, Runtime(), Silent(), privacy)


def make_steps(folder, model, *, cohort=COHORT, rows=ROWS, **settings):
    return PrivateSteps(model, TrainingSet(cohort, rows, ROWS[:0], SCALE), make_job(folder, **settings))


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def clipped_sum(model, rows, clip):
    """The twin: every scan alone, clipped, added, in float64."""
    model = model.double()
    total = [torch.zeros_like(p) for p in model.parameters()]
    for row in rows:
        age = float(COHORT.covariates.age[row])
        loss = (model(torch.from_numpy(COHORT.batch(np.array([row]))).double()) - age).square().sum() / SCALE
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        gradients = [
            torch.zeros_like(p) if g is None else g
            for g, p in zip(gradients, model.parameters(), strict=True)
        ]
        size = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        factor = min(1.0, clip / size)
        total = [mine + gradient * factor for mine, gradient in zip(total, gradients, strict=True)]
    return total


@pytest.mark.parametrize("name", ["cnn3d", "slice-mean"])
@pytest.mark.parametrize("clipping", ["per-sample", "ghost"])
@pytest.mark.parametrize("memory", ["2GiB", "0.1MiB"])
def test_a_step_without_noise_moves_by_the_clipped_gradients(name, clipping, memory, tmp_path):
    model = make_model(name)
    clip = 0.5
    privacy = {"clip": clip, "clipping": clipping, "memory": memory}
    steps = make_steps(tmp_path, model, privacy=privacy, optimiser="sgd", weight_decay=0.0)
    list(steps.batches(1))
    rows = np.array([3, 0, 7, 9, 12])
    before = [p.detach().double().clone() for p in model.parameters()]
    expected = clipped_sum(make_model(name), rows, clip)
    residual = steps.update(rows)
    assert residual.shape == (5,)
    after = [p.detach().double() for p in model.parameters()]
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, after, strict=True)])
    wanted = torch.cat([e.flatten() for e in expected]).detach() * 1e-2 / 4  # learning rate / expected batch
    assert float((moved - wanted).norm() / wanted.norm()) < 1e-3
    assert float(wanted.norm()) <= len(rows) * clip * 1e-2 / 4


def test_the_noise_has_the_size_that_is_accounted_for(tmp_path):
    model = make_model()
    privacy = {"noise_multiplier": 3.0, "clip": 2.0}
    steps = make_steps(tmp_path, model, privacy=privacy, optimiser="sgd", weight_decay=0.0, learning_rate=1.0)
    list(steps.batches(1))
    before = weights_of(model)
    steps.update(ROWS[:0])  # nobody drawn: noise alone
    moved = weights_of(model) - before
    assert float(moved.std()) == pytest.approx(3.0 * 2.0 / 4, rel=0.02)
    assert abs(float(moved.mean())) < 5 * 1.5 / math.sqrt(len(moved))


def test_both_ways_of_clipping_agree_under_dropout(tmp_path):
    found = []
    for clipping in ("per-sample", "ghost"):
        model = make_model(dropout=0.5)
        steps = make_steps(tmp_path, model, privacy={"clipping": clipping}, optimiser="sgd")
        list(steps.batches(1))
        size = []
        for seed in range(3):
            torch.manual_seed(seed)
            before = weights_of(model)
            steps.update(np.array([1]))
            size.append(float((weights_of(model) - before).norm()))
        found.append(size)
    bound = 1e-2 / 4 * (1.0 + 1e-4)  # learning rate × clip / expected batch: the two passes of ghost
    assert np.max(found) <= bound + 1e-2 * 1e-4 * float(weights_of(make_model()).norm())


def test_batches_are_drawn_by_independent_coins(tmp_path):
    steps = make_steps(tmp_path, make_model())
    batches = [rows for epoch in range(1, 200) for rows in steps.batches(epoch)]
    sizes = np.array([len(rows) for rows in batches])
    rate = 4 / 14
    assert sizes.mean() == pytest.approx(4.0, abs=5 * math.sqrt(14 * rate * (1 - rate) / len(sizes)))
    assert sizes.var() == pytest.approx(14 * rate * (1 - rate), rel=0.2)
    assert all(len(set(rows)) == len(rows) for rows in batches)


def test_a_participant_gives_one_scan_however_many_there_are(tmp_path):
    people = tuple(ScanId(f"p{k // 2}", f"{k % 2}") for k in range(20))
    covariates = Covariates(people, COHORT.covariates.age, COHORT.covariates.sex, COHORT.covariates.site)

    class TwoSessions:
        grid, batch = COHORT.grid, staticmethod(COHORT.batch)

    TwoSessions.covariates = covariates
    steps = make_steps(tmp_path, make_model(), cohort=TwoSessions(), rows=np.arange(20))
    assert steps.mechanism.rate == pytest.approx(4 / 10)
    drawn = [rows for epoch in range(1, 40) for rows in steps.batches(epoch)]
    assert all(len({row // 2 for row in rows}) == len(rows) for rows in drawn)
    assert {row % 2 for rows in drawn for row in rows} == {0, 1}


def test_a_private_training_learns_and_says_what_it_spent(tmp_path):
    model = make_model()
    privacy = {"noise_multiplier": 0.6, "delta": 1e-3}
    job = make_job(tmp_path, privacy=privacy, epochs=15, learning_rate=3e-3, snapshot_every=5)
    trained = train(model, TrainingSet(COHORT, ROWS, ROWS[:0], SCALE), job)
    early = np.mean([point.train_mae for point in trained.curve[:3]])
    assert np.mean([point.train_mae for point in trained.curve[-3:]]) < early
    assert trained.privacy["unit"] == "participant"
    spent = []
    for path in trained.snapshots:
        with safe_open(path, "pt") as file:
            spent.append(float(file.metadata()["epsilon"]))
    assert 0 < spent[0] < spent[1] < spent[2] == float(trained.privacy["epsilon"])


def test_what_is_guaranteed_depends_on_who_can_know_the_noise(tmp_path):
    def facts(randomness):
        privacy = {"noise_multiplier": 1.0, "delta": 1e-3, "randomness": randomness}
        return make_steps(tmp_path, make_model(), privacy=privacy).facts(1)

    secret, seeded = facts("secret"), facts("seeded")
    assert secret["guarantee"].startswith(f"ε = {float(secret['epsilon']):.2f} at δ = 0.001")
    assert seeded["guarantee"].startswith("no guarantee to anybody who knows the seed")
    assert seeded["guarantee"].endswith(f"secret noise would give {secret['guarantee']}")
    assert "not cryptographic. Opacus' own secure_mode cannot be used here" in secret["noise"]
    assert "follow from the run's seed" in seeded["noise"]


def test_a_seeded_private_training_resumes_to_the_same_weights_and_a_secret_one_has_its_own(tmp_path):
    training_set = TrainingSet(COHORT, ROWS, ROWS[:0], SCALE)

    def run(folder, epochs, randomness="seeded", model=None):
        model = model or make_model()
        privacy = {"noise_multiplier": 1.0, "randomness": randomness}
        job = make_job(tmp_path / folder, privacy=privacy, epochs=epochs, snapshot_every=1)
        train(model, training_set, job)
        return weights_of(model)

    whole = run("whole", 3)
    run("cut", 2)
    assert torch.equal(run("cut", 3, model=make_model(seed=9)), whole)
    secret = run("secret", 1, "secret")
    assert not torch.equal(secret, run("again", 1, "secret"))


def test_a_target_is_reached_with_the_noise_that_was_chosen(tmp_path):
    job = make_job(tmp_path, privacy={"epsilon": 8.0, "noise_multiplier": None, "delta": 1e-3}, epochs=5)
    mechanism = plan(14, job.config, job.privacy)
    assert mechanism.noise_multiplier > 0.3
    steps = PrivateSteps(make_model(), TrainingSet(COHORT, ROWS, ROWS[:0], SCALE), job)
    assert 7.0 < steps.spent(5).epsilon <= 8.0


def test_models_that_couple_scans_are_refused_with_the_reason():
    model = nn.Sequential(
        nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.InstanceNorm3d(2, track_running_stats=True)
    )
    with pytest.raises(ModelError, match=r"1 \(BatchNorm3d\).*others of its batch.*2 \(Inst.*GroupNorm"):
        check_model(model)
    check_model(make_model())


@pytest.mark.parametrize("decide", [plan, check_plan])
def test_a_batch_larger_than_the_group_is_refused(decide):
    with pytest.raises(ConfigError, match="at most the 14 participants"):
        decide(14, TrainingConfig(batch_size=15), PrivacyConfig(noise_multiplier=1.0))


@pytest.mark.parametrize("decide", [plan, check_plan])
def test_noise_that_prv_cannot_compute_is_refused_when_the_training_is_planned(decide):
    large = {"epsilon": 500.0, "delta": 1e-3}
    training = TrainingConfig(epochs=2, batch_size=4)
    with pytest.raises(ConfigError, match=r"at least 0\.5, got 0\.\d+.*'rdp' or 'auto'.*epsilon = 500"):
        decide(14, training, PrivacyConfig(accountant="prv", **large))
    decide(14, training, PrivacyConfig(accountant="auto", **large))
    check_plan(14, training, PrivacyConfig(accountant="prv", epsilon=2.0, delta=1e-3))


def test_noise_that_prv_cannot_compute_is_refused_in_the_settings():
    with pytest.raises(ValueError, match=r"at least 0\.5, got 0\.49; take 'rdp'"):
        PrivacyConfig(accountant="prv", noise_multiplier=0.49)
    PrivacyConfig(accountant="prv", noise_multiplier=0.5)


def test_noise_and_target_are_two_ways_to_say_one_thing():
    for settings in ({}, {"epsilon": 3.0, "noise_multiplier": 1.0}):
        with pytest.raises(ValueError, match="one of epsilon and noise_multiplier"):
            PrivacyConfig(**settings)


@pytest.mark.parametrize("kind", ["seeded", "secret", "secure"])
def test_draws_have_the_distributions_that_are_accounted_for(kind):
    if kind == "secure":
        pytest.importorskip("cryptography")
    source = make_randomness(kind, Streams(1))
    source.start(1, torch.device("cpu"))
    noise = source.normal(torch.empty(200, 500), 2.0).double()
    assert noise.shape == (200, 500)
    assert float(noise.std()) == pytest.approx(2.0, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.04)
    assert float((noise.abs() > 2 * 1.959964).double().mean()) == pytest.approx(0.05, abs=0.005)
    assert float((noise[:, :-1] * noise[:, 1:]).mean()) == pytest.approx(0.0, abs=0.1)
    assert len(source.coins(100_000, 0.3)) == pytest.approx(30_000, abs=800)
    assert {source.one_of(3) for _ in range(100)} == {0, 1, 2}
