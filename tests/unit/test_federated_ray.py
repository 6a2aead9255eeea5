"""Flower's Ray simulation trains the same federation: slow, since processes import PyTorch anew."""

from pathlib import Path

import pytest
import torch

from privoxel.errors import FederationError
from privoxel.training.federated.privacy import LocalPrivacy
from privoxel.training.runtime import Runtime
from tests.federations import COHORT, LEARNERS, Spoiled, a_job, federate, weights
from tests.rays import NEEDS_RAY

pytestmark = [pytest.mark.slow, *NEEDS_RAY]


def nothing_in_the_south(rows, volumes):
    if set(rows.tolist()) & set(LEARNERS[1].rows.tolist()):
        raise OSError("the disk is gone")
    return volumes


def ray_processes():
    named = [folder / "cmdline" for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return [text for path in named if path.exists() and "pvx-" in (text := path.read_text())]


@pytest.fixture
def threads_of_the_runtime():
    """A run prepares its process; sums of another number of threads round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(Runtime().threads)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads_of_the_runtime")
def test_ray_gives_the_weights_of_the_in_process_engine(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    job = a_job(rounds=2, curious=True, absent={1: ("west",)}, privacy=LocalPrivacy(1.0, 50.0, 1e-5))
    plain = federate(tmp_path / "plain", job)
    parallel = federate(tmp_path / "ray", job, engine="ray")
    assert parallel.participation == plain.participation
    for one, other in zip(parallel.rounds, plain.rounds, strict=True):
        torch.testing.assert_close(weights(one), weights(other), rtol=0, atol=0)
    assert set(parallel.updates) == set(plain.updates)
    assert list(home.iterdir()) == []
    assert ray_processes() == []


def test_ray_names_the_learners_that_fail(tmp_path):
    cohort = Spoiled(nothing_in_the_south)
    with pytest.raises(
        FederationError, match=r"at least 3 learners, got 2; without one: south \(OSError: the disk is gone\)"
    ):
        federate(tmp_path, a_job(minimum_learners=3), engine="ray", cohort=cohort)


def test_a_cohort_that_does_not_pickle_is_refused_with_a_remedy(tmp_path):
    with pytest.raises(
        FederationError, match=r"needs a cohort and a model builder that pickle.*functools.partial"
    ):
        federate(tmp_path, build=lambda: None, engine="ray", cohort=COHORT)
