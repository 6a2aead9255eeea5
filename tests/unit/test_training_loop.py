import numpy as np
import pytest
import torch
from torch import nn

from privoxel.config import TrainingConfig
from privoxel.errors import ModelError
from privoxel.models import ModelSpec, build_model
from privoxel.progress import Silent
from privoxel.seeding import Streams
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.loop import load_weights, predict_ages, save_weights, train
from privoxel.training.runtime import Runtime
from tests.conftest import make_cohort

COHORT = make_cohort(20)
ROWS = np.arange(14)


def make_model(seed=1):
    return build_model(ModelSpec("cnn3d", width=0.125, head="scaled"), COHORT.grid.shape, 62.0, seed)


def run(folder, epochs=4, *, model=None, learning_rate=1e-3, seed=5, validation=(14, 15, 16)):
    config = TrainingConfig(epochs=epochs, batch_size=4, learning_rate=learning_rate, snapshot_every=2)
    model = model or make_model()
    training_set = TrainingSet(COHORT, ROWS, np.array(validation, dtype=int), loss_scale=55.0)
    folders = TrainingFolders(folder / "snapshots", folder / "state")
    job = TrainingJob(config, Streams(seed), folders, Runtime(), Silent())
    return model, train(model, training_set, job)


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_training_reduces_the_error(tmp_path):
    _, trained = run(tmp_path, epochs=12)
    assert trained.curve[-1].train_mae < 0.8 * trained.curve[0].train_mae
    assert trained.curve[-1].validation_mae is not None


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(tmp_path):
    first, _ = run(tmp_path / "a")
    second, _ = run(tmp_path / "b")
    other, _ = run(tmp_path / "c", seed=6)
    assert torch.equal(weights_of(first), weights_of(second))
    assert not torch.equal(weights_of(first), weights_of(other))


def test_snapshots_are_every_kth_epoch_and_the_last(tmp_path):
    _, trained = run(tmp_path, epochs=5)
    assert [p.stem for p in trained.snapshots] == ["epoch-0002", "epoch-0004", "epoch-0005"]
    assert [point.epoch for point in trained.curve] == [1, 2, 3, 4, 5]


def test_a_killed_training_continues_to_the_same_weights(tmp_path):
    whole, trained = run(tmp_path / "whole", epochs=5)

    class KilledError(Exception):
        pass

    calls = iter(range(10_000))

    class DyingCohort:
        grid, covariates = COHORT.grid, COHORT.covariates

        def batch(self, rows):
            if next(calls) >= 3 * 5 + 2:
                raise KilledError
            return COHORT.batch(rows)

    config = TrainingConfig(epochs=5, batch_size=4, learning_rate=1e-3, snapshot_every=2)
    folders = TrainingFolders(tmp_path / "cut" / "snapshots", tmp_path / "cut" / "state")
    job = TrainingJob(config, Streams(5), folders, Runtime(), Silent())
    dying = TrainingSet(DyingCohort(), ROWS, np.array([14, 15, 16]), loss_scale=55.0)
    with pytest.raises(KilledError):
        train(make_model(), dying, job)
    resumed, again = run(tmp_path / "cut", epochs=5, model=make_model(seed=99))
    assert torch.equal(weights_of(whole), weights_of(resumed))
    assert again.curve == trained.curve


def test_a_diverging_training_is_stopped_with_advice(tmp_path):
    with pytest.raises(ModelError, match=r"finite predictions, got .* in epoch \d+. Lower"):
        run(tmp_path, epochs=30, learning_rate=1e30)


def test_without_validation_rows_the_curve_has_none(tmp_path):
    _, trained = run(tmp_path, epochs=1, validation=())
    assert trained.curve[0].validation_mae is None


def test_weights_of_another_model_are_refused(tmp_path):
    save_weights(nn.Linear(2, 3), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"w.safetensors needs the weights of this model"):
        load_weights(make_model(), tmp_path / "w.safetensors")


def test_predictions_do_not_depend_on_the_batch_size():
    model = make_model()
    one = predict_ages(model, COHORT, ROWS, batch_size=1, runtime=Runtime())
    many = predict_ages(model, COHORT, ROWS, batch_size=5, runtime=Runtime())
    np.testing.assert_allclose(one, many, rtol=1e-5)
    assert len(one) == 14
