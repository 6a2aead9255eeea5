import pytest
import torch
from safetensors.torch import load_file

from privoxel.seeding import Streams
from tests.federations import BUILD, COHORT, LEARNERS, a_job, federate
from tests.twins.fedavg import fedavg


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_flower_gives_the_weights_of_plain_federated_averaging(tmp_path, weighted, batch_size):
    job = a_job(weighted=weighted, batch_size=batch_size)
    expected = fedavg(BUILD, COHORT, LEARNERS, job, Streams(5))
    federation = federate(tmp_path, job)
    assert len(federation.rounds) == len(expected) == 4
    for path, plain in zip(federation.rounds, expected, strict=True):
        stored = load_file(path)
        for name, value in plain.items():
            torch.testing.assert_close(stored[name], value, rtol=1e-6, atol=1e-7)
    assert not torch.equal(expected[0]["conv1.weight"], expected[-1]["conv1.weight"])


def test_weighted_and_unweighted_means_differ_for_learners_of_unequal_sizes():
    weighted, plain = (
        fedavg(BUILD, COHORT, LEARNERS, a_job(weighted=w), Streams(5))[-1] for w in (True, False)
    )
    assert not torch.allclose(weighted["conv1.weight"], plain["conv1.weight"])


def test_fedprox_gives_the_weights_of_its_twin(tmp_path):
    job = a_job(rounds=2, strategy="fedprox", proximal_mu=100.0)
    expected = fedavg(BUILD, COHORT, LEARNERS, job, Streams(5))[-1]
    without = fedavg(BUILD, COHORT, LEARNERS, a_job(rounds=2), Streams(5))[-1]
    stored = load_file(federate(tmp_path, job).rounds[-1])
    for name, value in expected.items():
        torch.testing.assert_close(stored[name], value, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(expected["output.weight"], without["output.weight"], rtol=1e-3)
