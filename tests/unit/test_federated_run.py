import importlib
import json
import os
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from privoxel.errors import FederationError, ModelError
from privoxel.models import ModelSpec, build_model
from privoxel.seeding import Streams
from privoxel.training.federated.job import Learner
from privoxel.training.loop import load_weights, predict_ages
from privoxel.training.runtime import Runtime
from tests.federations import BUILD, COHORT, LEARNERS, Spoiled, a_job, federate, weights


class Recorder:
    """A progress that writes down what it is told, and dies after ``deadly`` rounds if asked to."""

    class Killed(BaseException):
        pass

    def __init__(self, deadly=None):
        self.titles, self.steps, self.notes, self.deadly = [], [], [], deadly

    def task(self, title, total):
        self.titles.append((title, total))
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def advance(self, steps=1):
        self.steps.append(steps)
        if self.deadly is not None and sum(self.steps) >= self.deadly:
            raise self.Killed

    def note(self, text):
        self.notes.append(text)


def test_a_federation_leaves_a_snapshot_for_every_round_and_who_took_part(tmp_path):
    federation = federate(tmp_path)
    assert [path.stem for path in federation.rounds] == [f"round-{k:04d}" for k in range(4)]
    assert torch.equal(weights(federation.rounds[0]), _flat(BUILD()))
    assert [entry.took_part for entry in federation.participation] == [("north", "south", "west")] * 3
    assert federation.updates == {}
    for entry in federation.participation:
        assert list(entry.train_mae) == ["north", "south", "west"]
        assert min(entry.train_mae.values()) > 0


def _flat(model):
    state = model.state_dict()
    return torch.cat([state[name].flatten() for name in sorted(state)])


def test_training_reduces_the_error(tmp_path):
    build = partial(
        build_model, ModelSpec("cnn3d", width=0.25, head="scaled", dropout=0.0), COHORT.grid.shape, 62.0, 1
    )
    federation = federate(tmp_path, a_job(rounds=8, local_epochs=4), build=build)
    first, *_, last = (mae_of(build(), path) for path in federation.rounds)
    assert last < 0.8 * first


def mae_of(model, path):
    load_weights(model, path)
    predicted = predict_ages(model, COHORT, np.arange(15), batch_size=5, runtime=Runtime())
    return np.abs(predicted - COHORT.covariates.age[:15]).mean()


def test_a_curious_server_keeps_the_updates_whose_mean_is_the_community_model(tmp_path):
    federation = federate(tmp_path, a_job(curious=True, rounds=2))
    assert set(federation.updates) == {(k, learner.name) for k in (1, 2) for learner in LEARNERS}
    sizes = [len(learner.rows) for learner in LEARNERS]
    for number in (1, 2):
        updates = [weights(federation.updates[number, learner.name]) for learner in LEARNERS]
        mean = sum(n * update for n, update in zip(sizes, updates, strict=True)) / sum(sizes)
        torch.testing.assert_close(weights(federation.rounds[number]), mean, rtol=1e-5, atol=1e-6)


def test_the_constants_of_the_scaled_head_are_not_averaged(tmp_path):
    stored = load_file(federate(tmp_path, a_job(rounds=2)).rounds[-1])
    assert {float(value) for name, value in stored.items() if name.endswith(("mean_age", "scale"))} == {
        62.0,
        70.0,
    }


def test_results_depend_on_the_seed_and_on_nothing_outside(tmp_path):
    job = a_job(rounds=1)
    one = weights(federate(tmp_path / "a", job).rounds[-1])
    np.random.seed(3)  # noqa: NPY002 - a disturbance
    torch.manual_seed(3)
    again = weights(federate(tmp_path / "b", job).rounds[-1])
    other = weights(federate(tmp_path / "c", job, streams=Streams(6)).rounds[-1])
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_learners_training_does_not_depend_on_the_other_learners(tmp_path):
    job = a_job(rounds=1, curious=True)
    with_all = federate(tmp_path / "all", job).updates[1, "west"]
    alone = federate(tmp_path / "alone", job, learners=LEARNERS[2:]).updates[1, "west"]
    assert torch.equal(weights(with_all), weights(alone))


@pytest.mark.parametrize("strategy", [{}, {"strategy": "fedadam", "server_learning_rate": 0.01}])
def test_a_killed_federation_resumes_to_the_same_weights(tmp_path, strategy):
    job = a_job(rounds=4, **strategy)
    whole = federate(tmp_path / "whole", job)
    with pytest.raises(Recorder.Killed):
        federate(tmp_path / "cut", job, progress=Recorder(deadly=2))
    record = json.loads((tmp_path / "cut" / "federation.json").read_text())
    assert len(record["rounds"]) == 2
    resumed = federate(tmp_path / "cut", job, progress=(watch := Recorder()))
    assert watch.steps == [2, 1, 1]
    assert resumed.participation == whole.participation
    for one, other in zip(resumed.rounds, whole.rounds, strict=True):
        assert torch.equal(weights(one), weights(other))
    assert not (tmp_path / "cut" / "state").exists()


def test_a_kill_within_a_round_repeats_that_round(tmp_path):
    job = a_job(rounds=3)
    whole = federate(tmp_path / "whole", job)
    calls = iter(range(10_000))

    def die(rows, volumes):
        if next(calls) == 30:
            raise KeyboardInterrupt
        return volumes

    with pytest.raises(KeyboardInterrupt):
        federate(tmp_path / "cut", job, cohort=Spoiled(die))
    assert 1 <= len(json.loads((tmp_path / "cut" / "federation.json").read_text())["rounds"]) < 3
    resumed = federate(tmp_path / "cut", job)
    assert torch.equal(weights(resumed.rounds[-1]), weights(whole.rounds[-1]))


def test_a_finished_federation_is_read_and_not_trained_again(tmp_path):
    first = federate(tmp_path)

    def fail(rows, volumes):
        raise AssertionError("no scan is needed")

    assert federate(tmp_path, cohort=Spoiled(fail)) == first


def test_a_folder_of_other_settings_is_refused_with_the_difference(tmp_path):
    federate(tmp_path, a_job(rounds=1))
    with pytest.raises(FederationError, match=r"job.batch_size: the folder has 2, now 1\n"):
        federate(tmp_path, a_job(rounds=1, batch_size=1))
    others = (*LEARNERS[:2], Learner("west", np.arange(11, 16)))
    with pytest.raises(FederationError, match=r"data: the folder has"):
        federate(tmp_path, a_job(rounds=1), learners=others)


def test_progress_is_one_task_of_rounds(tmp_path):
    federate(tmp_path, progress=(watch := Recorder()))
    assert watch.titles == [("federation", 3)]
    assert watch.steps == [0, 1, 1, 1]
    assert watch.notes[0].startswith("round 1, 3 of 3 learners, MAE ")


def test_nothing_is_written_outside_the_folder_and_telemetry_is_off(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FLWR_HOME", str(home / "flwr"))
    monkeypatch.chdir(home)
    federate(tmp_path / "run", a_job(rounds=1))
    assert list(home.iterdir()) == []
    telemetry = importlib.import_module("flwr.supercore.telemetry")
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == telemetry.FLWR_TELEMETRY_ENABLED == "0"


def test_a_federation_says_nothing_on_the_terminal(tmp_path, capfd):
    federate(tmp_path, a_job(rounds=1))
    said = capfd.readouterr()
    assert said.out == said.err == ""


def test_a_model_with_running_statistics_is_refused(tmp_path):
    def build():
        return torch.nn.Sequential(torch.nn.BatchNorm3d(1), torch.nn.Flatten(), torch.nn.LazyLinear(1))

    with pytest.raises(ModelError, match=r"without running statistics, got 0.running_mean"):
        federate(tmp_path, build=build)


def test_an_unknown_engine_is_refused(tmp_path):
    with pytest.raises(FederationError, match=r"engine needs one of in-process, ray, got 'mpi'"):
        federate(tmp_path, engine="mpi")
