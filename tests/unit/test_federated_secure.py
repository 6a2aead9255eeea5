"""Secure aggregation: the mean comes out, and no update can be read on the way."""

import io

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from privoxel.errors import ConfigError, FederationError
from privoxel.training.federated.privacy import SecureAggregation
from tests.federations import BUILD, LEARNERS, Spoiled, a_job, conduct, federate, weights

SECURE = SecureAggregation()


@pytest.mark.parametrize("weighted", [True, False])
def test_the_community_model_is_the_mean_up_to_rounding(tmp_path, weighted):
    plain = federate(tmp_path / "plain", a_job(rounds=1, weighted=weighted))
    secure = federate(tmp_path / "secure", a_job(rounds=1, weighted=weighted, privacy=SECURE))
    assert secure.participation[0].took_part == ("north", "south", "west")
    torch.testing.assert_close(weights(secure.rounds[1]), weights(plain.rounds[1]), rtol=0, atol=3e-6)
    assert not torch.equal(weights(secure.rounds[1]), weights(secure.rounds[0]))


def test_it_repeats_and_resumes_to_the_same_weights(tmp_path):
    job = a_job(rounds=3, privacy=SECURE)
    whole = federate(tmp_path / "whole", job)
    calls = iter(range(1, 1000))

    def die(rows, volumes):
        if next(calls) == 25:
            raise KeyboardInterrupt
        return volumes

    with pytest.raises(KeyboardInterrupt):
        federate(tmp_path / "cut", job, cohort=Spoiled(die))
    resumed = federate(tmp_path / "cut", job)
    assert torch.equal(weights(resumed.rounds[-1]), weights(whole.rounds[-1]))


def test_what_a_curious_server_receives_says_nothing_about_the_update(tmp_path):
    received = {}

    def watch(reply, learner):
        masked = reply.content.config_records["secaggplus_configs"].get("masked_params")
        if masked:
            arrays = [np.load(io.BytesIO(part)) for part in masked[1:]]
            received[learner] = np.concatenate([array.ravel() for array in arrays])
        assert all(len(record) == 0 for record in reply.content.array_records.values())
        return reply

    job = a_job(rounds=1, privacy=SECURE, curious=True)
    secure = conduct(watch, job, tmp_path / "secure")
    assert secure.updates == {}
    plain = conduct(None, a_job(rounds=1, curious=True), tmp_path / "plain")
    community = torch.cat([p.flatten() for p in _learnable(plain.rounds[0])])
    for learner in LEARNERS:
        update = torch.cat([p.flatten() for p in _learnable(plain.updates[1, learner.name])]) - community
        masked = received[learner.name] / 2**32
        assert 0.49 < masked.mean() < 0.51
        assert abs(np.corrcoef(masked, update.numpy())[0, 1]) < 0.03


def _learnable(path):
    stored = load_file(path)
    return [stored[name] for name, _ in BUILD().named_parameters()]


def test_a_learner_that_drops_out_in_a_round_is_named_and_the_mean_is_of_the_others(tmp_path):
    def fail(rows, volumes):
        if set(rows.tolist()) & set(LEARNERS[1].rows.tolist()):
            raise OSError("the disk is gone")
        return volumes

    secure = federate(tmp_path / "secure", a_job(rounds=1, privacy=SECURE), cohort=Spoiled(fail))
    plain = federate(tmp_path / "plain", a_job(rounds=1, absent={1: ("south",)}))
    assert secure.participation[0].took_part == ("north", "west")
    assert secure.participation[0].failed == {"south": "no masked update"}
    torch.testing.assert_close(weights(secure.rounds[1]), weights(plain.rounds[1]), rtol=0, atol=3e-6)


@pytest.mark.parametrize("factor", [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_withheld_by_its_learner(tmp_path, factor):
    def spoil(rows, volumes):
        south = set(rows.tolist()) & set(LEARNERS[1].rows.tolist())
        return volumes * np.float32(factor) if south else volumes

    secure = federate(tmp_path, a_job(rounds=1, privacy=SECURE), cohort=Spoiled(spoil))
    assert secure.participation[0].took_part == ("north", "west")


def test_a_round_of_one_learner_is_refused_since_its_mean_would_be_its_update(tmp_path):
    job = a_job(rounds=1, privacy=SECURE, absent={1: ("north", "west")})
    with pytest.raises(FederationError, match=r"without one: .*north \(absent\), west \(absent\)"):
        federate(tmp_path, job)


def test_updates_beyond_the_range_of_the_masks_end_the_federation_with_their_learners_named(tmp_path):
    job = a_job(rounds=1, privacy=SecureAggregation(largest_update=1e-6))
    with pytest.raises(FederationError, match=r"north \(no masked update\), south \(no masked update\)"):
        federate(tmp_path, job)


def test_settings_that_cannot_be_masked_are_refused():
    with pytest.raises(
        ConfigError, match=r"secure aggregation needs strategy fedavg or fedprox, got 'fedadam'"
    ):
        a_job(strategy="fedadam", privacy=SECURE)
    with pytest.raises(
        ConfigError, match=r"largest_update needs a number above 0, got 0; threshold needs a share"
    ):
        a_job(privacy=SecureAggregation(0, 2))
