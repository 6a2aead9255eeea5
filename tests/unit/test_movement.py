"""Signals of the course of training against explicit steps of gradient descent."""

import numpy as np
import pytest
import torch

from privoxel.errors import SignalError
from privoxel.gradients.projection import project
from privoxel.models import ModelSpec, build_model
from privoxel.progress import Silent
from privoxel.signals.movement import Intervals, extract_movement
from privoxel.training.loop import save_weights
from tests.conftest import make_cohort

COHORT = make_cohort(7)
MEMBERS = [0, 2, 3]
RATE = 1e-5


def make_model():
    return build_model(ModelSpec("cnn3d", width=0.125, head="scaled"), COHORT.grid.shape, 62.0, 1).eval()


def gradient_of(model, row):
    model.zero_grad()
    prediction = model(torch.from_numpy(COHORT.batch([row])))
    ((prediction - COHORT.covariates.age[row]) ** 2).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def descend(folder):
    """Return snapshots of two steps down the members' mean gradient, and everyone's gradients before each."""
    model, paths, gradients = make_model(), [folder / "step-0.safetensors"], []
    save_weights(model, paths[0])
    for step in (1, 2):
        gradients.append([gradient_of(model, row) for row in range(7)])
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                tensor.sub_(RATE * sum(gradients[-1][row][name] for row in MEMBERS) / len(MEMBERS))
        paths.append(folder / f"step-{step}.safetensors")
        save_weights(model, paths[-1])
    return paths, gradients


def flat(gradient):
    return torch.cat([tensor.double().flatten() for tensor in gradient.values()]).numpy()


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    paths, gradients = descend(folder)
    intervals = Intervals(projection=64, gradient_per_move=(1.0 / RATE, 1.0 / RATE), batch_size=3)
    table = extract_movement(
        make_model(), paths, COHORT, intervals, folder=folder / "signals", progress=Silent()
    )
    return table, gradients


@pytest.mark.parametrize("step", [0, 1])
def test_products_are_those_with_the_direction_of_the_step(course, step):
    table, gradients = course
    move = -sum(flat(gradients[step][row]) for row in MEMBERS)
    slow = [flat(g) @ move / np.linalg.norm(move) for g in gradients[step]]
    found = table.read("product:movement", snapshot=step)
    np.testing.assert_allclose(found, slow, rtol=1e-2, atol=1e-2 * np.abs(slow).max())


@pytest.mark.parametrize("step", [0, 1])
def test_the_mean_gradient_of_a_step_is_that_of_its_scans(course, step):
    table, gradients = course
    mean = {
        name: (sum(gradients[step][row][name] for row in MEMBERS) / len(MEMBERS))[None]
        for name in gradients[step][0]
    }
    slow = project(mean, 64, seed=0)[0].numpy()
    found = table.read("step:64", snapshot=step)
    assert found.shape == (7, 64)
    np.testing.assert_allclose(found[0], slow, rtol=1e-2, atol=1e-2 * np.abs(slow).max())
    np.testing.assert_array_equal(found, np.repeat(found[:1], 7, axis=0))
    of_members = table.read("projection:64", snapshot=step)[MEMBERS].mean(axis=0)
    np.testing.assert_allclose(found[0], of_members, rtol=1e-2, atol=1e-2 * np.abs(slow).max())


def test_the_table_has_one_snapshot_for_each_interval_and_no_membership(course):
    table, _ = course
    assert table.snapshots == ("step-0", "step-1")
    assert not table.is_member().any()
    assert set(table.values) == {
        "prediction",
        "gradient-norms",
        "product:movement",
        "projection:64",
        "step:64",
    }


def test_one_snapshot_and_weights_that_stay_are_refused(tmp_path):
    path = tmp_path / "step-0.safetensors"
    save_weights(make_model(), path)
    for paths, message in (([path], "at least 2 snapshots, got 1"), ([path, path], "weights that move")):
        with pytest.raises(SignalError, match=message):
            extract_movement(
                make_model(), paths, COHORT, Intervals(), folder=tmp_path / "s", progress=Silent()
            )
