"""A training killed anywhere goes on to the weights of the one that was not, bit for bit."""

import math

import numpy as np
import pytest
import torch

from privoxel.config import TrainingConfig
from privoxel.defence_config import DefenceConfig
from privoxel.errors import ModelError
from privoxel.models import ModelSpec, build_model
from privoxel.privacy_config import PrivacyConfig
from privoxel.progress import Silent
from privoxel.seeding import Streams
from privoxel.training import resuming
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.loop import train
from privoxel.training.runtime import Runtime
from tests.conftest import make_cohort

COHORT = make_cohort(20)
ROWS, VALIDATION = np.arange(14), np.array([15, 18])
NOISY = {"noise_multiplier": 1.0, "delta": 1e-3}
KINDS = {
    "plain": {},
    "sgd": {"optimiser": "sgd"},
    "augmentation": {"defence": {"augmentation": {"degrees": 5.0, "mm": 15.0, "noise": 0.1}, "mixup": 0.4}},
    "projection": {"defence": {"keep_unique": 0.25}},
    "pruning and averaging": {"defence": {"sparsity": 0.7, "average_last": 2}},
    "stopped by the gap": {"defence": {"stop_gap": 1.0}, "learning_rate": 1e-2},
    "private": {"privacy": {**NOISY, "randomness": "seeded"}, "defence": {"augmentation": {"mm": 15.0}}},
    "private, ghost": {"privacy": {**NOISY, "randomness": "seeded", "clipping": "ghost"}},
}


class KilledError(Exception):
    pass


class Mortal:
    """The cohort, whose reading fails at one call, and the calls that went well."""

    def __init__(self, dies_at=math.inf):
        self.grid, self.covariates = COHORT.grid, COHORT.covariates
        self.calls, self.dies_at = 0, dies_at

    def batch(self, rows):
        if self.calls == self.dies_at:
            raise KilledError
        self.calls += 1
        return COHORT.batch(rows)


def make_model(seed=1):
    spec = ModelSpec("cnn3d", width=0.125, head="scaled", dropout=0.5)
    return build_model(spec, COHORT.grid.shape, 62.0, seed)


def run(folder, cohort, *, seed=1, state_seconds=0.0, defence=None, privacy=None, **training):
    """Return the weights of a training of three epochs of four updates, and how it went."""
    settings = {"epochs": 3, "batch_size": 4, "learning_rate": 1e-3, "snapshot_every": 2, **training}
    job = TrainingJob(
        TrainingConfig(**settings),
        Streams(5),
        TrainingFolders(folder / "snapshots", folder / "state"),
        Runtime(),
        Silent(),
        PrivacyConfig(**privacy) if privacy else None,
        DefenceConfig(**(defence or {})),
        state_seconds=state_seconds,
    )
    model = make_model(seed)
    trained = train(model, TrainingSet(cohort, ROWS, VALIDATION, 55.0), job)
    return torch.cat([p.detach().flatten() for p in model.parameters()]), trained


def kill(folder, dies_at, **settings):
    """Train until the reading dies, and return the state that is left."""
    with pytest.raises(KilledError):
        run(folder, Mortal(dies_at), **settings)
    return torch.load(folder / "state" / "training.pt", weights_only=True)


@pytest.fixture(autouse=True)
def _a_state_after_every_update(monkeypatch):
    monkeypatch.setattr(resuming, "LARGEST_SHARE", math.inf)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_killed_within_an_epoch_continues_to_the_same_weights(kind, tmp_path):
    whole, trained = run(tmp_path / "whole", Mortal(), **KINDS[kind])
    for dies_at in (3, 8):  # in the first epoch, before any snapshot; in the second
        folder = tmp_path / str(dies_at)
        state = kill(folder, dies_at, **KINDS[kind])
        assert 0 < state["position"]["updates"] < 4
        assert len(state["position"]["curve"]) == dies_at // 5
        resumed, again = run(folder, Mortal(), seed=99, **KINDS[kind])
        assert torch.equal(whole, resumed)
        assert again.curve == trained.curve
        assert again.facts == trained.facts
        assert [p.name for p in again.snapshots] == [p.name for p in trained.snapshots]
    assert bool(trained.defence.get("stopped")) == (kind == "stopped by the gap")


def test_no_update_is_made_twice_however_often_a_training_is_killed(tmp_path):
    whole = Mortal()
    weights, trained = run(tmp_path / "whole", whole)
    calls, lives = 0, 0
    while True:
        cohort, lives = Mortal(3), lives + 1
        try:
            resumed, again = run(tmp_path / "cut", cohort, seed=lives)
            break
        except KilledError:
            calls += cohort.calls
    assert lives > 4
    assert calls + cohort.calls <= whole.calls + lives  # a validation that was cut off is begun anew
    assert torch.equal(weights, resumed)
    assert again.curve == trained.curve


def test_between_snapshots_a_short_training_writes_no_state(tmp_path):
    with pytest.raises(KilledError):
        run(tmp_path, Mortal(9), state_seconds=1e6)
    assert not (tmp_path / "state").exists()


def test_a_slow_disk_makes_states_rarer(tmp_path, monkeypatch):
    monkeypatch.setattr(resuming, "LARGEST_SHARE", 1e-9)
    position = kill(tmp_path, 8)["position"]
    assert (len(position["curve"]), position["updates"]) == (0, 1)


@pytest.mark.parametrize("randomness", ["secret", "secure"])
def test_no_state_tells_secret_noise_and_every_update_is_counted_once(randomness, tmp_path):
    if randomness == "secure":
        pytest.importorskip("cryptography")
    privacy = {**NOISY, "randomness": randomness}
    state = kill(tmp_path / "cut", 9, privacy=privacy)
    assert state["steps"]["noise"] is None
    _, whole = run(tmp_path / "whole", Mortal(), privacy=privacy)
    _, resumed = run(tmp_path / "cut", Mortal(), seed=99, privacy=privacy)
    assert resumed.facts == whole.facts


def test_the_state_of_another_model_or_version_is_refused_with_advice(tmp_path):
    kill(tmp_path, 9)
    file = tmp_path / "state" / "training.pt"
    for state in ({"epoch": 2}, {"weights": {"x": torch.zeros(1)}}):
        torch.save(state, file)
        with pytest.raises(ModelError, match=r"(?s)training\.pt needs to be the state .* Remove it"):
            run(tmp_path, Mortal())
