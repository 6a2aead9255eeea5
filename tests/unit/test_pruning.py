"""Pruned federations: the smallest weights are zero, and stay so where learners train."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from privoxel.errors import ConfigError
from privoxel.training.federated.job import FederationJob
from privoxel.training.pruning import pruned, sparsity_at
from tests.federations import a_job, federate


def share_of_zeros(path):
    kernels = [value for value in load_file(path).values() if value.ndim > 1]
    return sum((value == 0).sum() for value in kernels) / sum(value.size for value in kernels)


def test_the_smallest_kernels_become_zero_and_biases_stay():
    weights = {
        "a": np.array([[3.0, -1.0], [0.5, 2.0]]),
        "b": np.array([[-4.0, 0.25]]),
        "bias": np.array([0.1]),
    }
    found = pruned(weights, 0.5)
    np.testing.assert_array_equal(found["a"], [[3.0, 0.0], [0.0, 2.0]])
    np.testing.assert_array_equal(found["b"], [[-4.0, 0.0]])
    np.testing.assert_array_equal(found["bias"], [0.1])
    assert pruned(weights, 0.1) is weights


def test_the_share_rises_to_the_final_one():
    shares = [sparsity_at(number, 10, 0.9) for number in range(11)]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] == 0.9


def test_every_community_model_is_as_sparse_as_its_round_asks(tmp_path):
    job = a_job(sparsity=0.8, curious=True)
    federation = federate(tmp_path, job)
    for number, path in enumerate(federation.rounds[1:], start=1):
        assert share_of_zeros(path) == pytest.approx(sparsity_at(number, job.rounds, 0.8), abs=0.02)


def test_learners_train_only_what_is_left(tmp_path):
    federation = federate(tmp_path, a_job(sparsity=0.8, curious=True))
    last = len(federation.rounds) - 1
    before = load_file(federation.rounds[last - 1])
    for (number, _), path in federation.updates.items():
        if number == last:
            after = load_file(path)
            assert all(
                (after[name][value == 0] == 0).all() for name, value in before.items() if value.ndim > 1
            )
            assert any((after[name] != value).any() for name, value in before.items())


def test_a_model_of_zeros_alone_is_refused():
    with pytest.raises(ConfigError, match=r"sparsity needs a share below 1, got 1"):
        FederationJob(sparsity=1.0)
