"""Flower's strategies and privacy do to the updates what their papers say."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from privoxel.training.federated.privacy import CentralPrivacy, LocalPrivacy
from tests.federations import BUILD, a_job, conduct, federate, weights

NAMES = [name for name, _ in BUILD().named_parameters()]


def learnable(path):
    stored = load_file(path)
    return torch.cat([stored[name].flatten() for name in NAMES]).double()


def updates(federation, number):
    """Local minus community weights of each learner, in the order of the learners."""
    before = learnable(federation.rounds[number - 1])
    taking_part = federation.participation[number - 1].took_part
    return torch.stack([learnable(federation.updates[number, name]) - before for name in taking_part])


def moved(federation, number):
    return learnable(federation.rounds[number]) - learnable(federation.rounds[number - 1])


def clipped(rows, norm):
    return rows * torch.clamp(norm / rows.norm(dim=1, keepdim=True), max=1)


def test_fedprox_pulls_towards_the_community_model(tmp_path):
    job = {"rounds": 1, "curious": True}
    free = updates(federate(tmp_path / "free", a_job(**job)), 1)
    held = updates(federate(tmp_path / "held", a_job(**job, strategy="fedprox", proximal_mu=200.0)), 1)
    assert (held.norm(dim=1) < 0.9 * free.norm(dim=1)).all()


def test_one_proximal_step_from_the_community_model_is_a_plain_step(tmp_path):
    """The proximal term has no gradient where a round starts: ½ μ ‖w − w₀‖² is flat at w₀."""
    job = {"rounds": 1, "local_epochs": 1, "batch_size": 7}
    plain = federate(tmp_path / "plain", a_job(**job))
    proximal = federate(tmp_path / "prox", a_job(**job, strategy="fedprox", proximal_mu=50.0))
    torch.testing.assert_close(weights(plain.rounds[1]), weights(proximal.rounds[1]), rtol=1e-6, atol=1e-7)


def test_fedadam_follows_the_formula_of_reddi_et_al(tmp_path):
    eta, beta_1, beta_2, tau = 0.02, 0.8, 0.95, 1e-2
    job = a_job(
        strategy="fedadam",
        server_learning_rate=eta,
        server_betas=(beta_1, beta_2),
        server_tau=tau,
        curious=True,
        weighted=False,
    )
    federation = federate(tmp_path, job)
    m = v = torch.zeros(1, dtype=torch.float64)
    for number in (1, 2, 3):
        mean = updates(federation, number).mean(0)
        m, v = beta_1 * m + (1 - beta_1) * mean, beta_2 * v + (1 - beta_2) * mean**2
        rate = (
            eta * math.sqrt(1 - beta_2 ** (number + 1)) / (1 - beta_1 ** (number + 1))
        )  # Flower's correction
        torch.testing.assert_close(
            moved(federation, number), rate * m / (v.sqrt() + tau), rtol=1e-3, atol=1e-6
        )


def test_snapshots_are_in_single_precision_whatever_the_strategy_computes_in(tmp_path):
    federation = federate(tmp_path, a_job(rounds=2, strategy="fedadam", server_learning_rate=0.01))
    assert {value.dtype for value in load_file(federation.rounds[-1]).values()} == {torch.float32}


@pytest.mark.parametrize("clipped_by", ["server", "learner"])
def test_central_privacy_without_noise_is_the_mean_of_clipped_updates(tmp_path, clipped_by):
    free = federate(tmp_path / "free", a_job(rounds=1, weighted=False, curious=True))
    norm = float(updates(free, 1).norm(dim=1).median())
    job = a_job(
        rounds=1, weighted=False, curious=True, privacy=CentralPrivacy(0.0, norm, clipped_by=clipped_by)
    )
    private = federate(tmp_path / "private", job)
    expected = clipped(updates(free, 1), norm)
    torch.testing.assert_close(moved(private, 1), expected.mean(0), rtol=1e-4, atol=1e-7)
    seen = updates(free, 1) if clipped_by == "server" else expected
    torch.testing.assert_close(updates(private, 1), seen, rtol=1e-4, atol=1e-7)


def test_central_noise_is_that_of_the_learners_who_took_part(tmp_path):
    def noise(folder, absent):
        jobs = [
            a_job(rounds=1, weighted=False, absent=absent, privacy=CentralPrivacy(multiplier, 2.0))
            for multiplier in (3.0, 0.0)
        ]
        noisy, plain = (federate(tmp_path / folder / str(k), job) for k, job in enumerate(jobs))
        return float((learnable(noisy.rounds[1]) - learnable(plain.rounds[1])).std())

    assert noise("all", {}) == pytest.approx(3.0 * 2.0 / 3, rel=0.05)
    assert noise("one", {1: ("north", "west")}) == pytest.approx(3.0 * 2.0, rel=0.05)


def test_local_noise_has_the_sd_of_the_gaussian_mechanism_and_differs_between_learners(tmp_path):
    free = federate(tmp_path / "free", a_job(rounds=1, curious=True))
    privacy = LocalPrivacy(clipping_norm=0.05, epsilon=0.5, delta=1e-5)
    private = federate(tmp_path / "private", a_job(rounds=1, curious=True, privacy=privacy))
    noise = updates(private, 1) - clipped(updates(free, 1), 0.05)
    expected = 0.05 * math.sqrt(2 * math.log(1.25 / 1e-5)) / 0.5
    np.testing.assert_allclose(noise.std(dim=1).numpy(), expected, rtol=0.05)
    assert abs(torch.corrcoef(noise)[0, 1]) < 0.05


@pytest.mark.parametrize("clipped_by", ["server", "learner"])
@pytest.mark.parametrize(("start", "direction"), [(1e-3, 1), (1e3, -1)])
def test_adaptive_clipping_moves_towards_its_target(tmp_path, clipped_by, start, direction):
    """Andrew et al. 2021, algorithm 1: C ← C exp(-η (b - γ)), where b is the share of updates below C."""
    privacy = CentralPrivacy(0.0, start, clipping="adaptive", clipped_by=clipped_by, norm_rate=0.3)
    federation = federate(tmp_path, a_job(weighted=False, privacy=privacy))
    norms = [entry.clipping_norm for entry in federation.participation]
    expected = [start * math.exp(direction * 0.3 * 0.5 * k) for k in range(3)]
    np.testing.assert_allclose(norms, expected, rtol=1e-6)


def test_adaptive_noise_is_calibrated_to_the_norm_that_clipped(tmp_path):
    privacy = [
        CentralPrivacy(z, 1e-3, clipping="adaptive", norm_rate=4.0, count_sd=1000.0) for z in (2.0, 0.0)
    ]
    noisy, plain = (
        federate(tmp_path / str(k), a_job(rounds=1, weighted=False, privacy=p)) for k, p in enumerate(privacy)
    )
    noise = float((learnable(noisy.rounds[1]) - learnable(plain.rounds[1])).std())
    assert noise == pytest.approx(2.0 * 1e-3 / 3, rel=0.05)


def test_a_killed_federation_with_adaptive_noise_resumes_to_the_same_weights(tmp_path):
    privacy = CentralPrivacy(0.1, 0.1, clipping="adaptive", count_sd=1.0)
    job = a_job(rounds=3, weighted=False, privacy=privacy)
    whole = federate(tmp_path / "whole", job)

    calls = iter(range(1, 100))

    def die(reply, learner):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return reply

    with pytest.raises(KeyboardInterrupt):
        conduct(die, job, tmp_path / "cut")
    resumed = conduct(None, job, tmp_path / "cut")
    assert [entry.clipping_norm for entry in resumed.participation] == [
        entry.clipping_norm for entry in whole.participation
    ]
    assert torch.equal(weights(resumed.rounds[-1]), weights(whole.rounds[-1]))


def test_a_learner_that_returns_the_community_model_cannot_stop_a_private_round(tmp_path):
    def echo(reply, learner):
        if learner == "north":
            for name, value in BUILD().named_parameters():
                reply.content["arrays"][name] = type(reply.content["arrays"][name])(value.detach().numpy())
        return reply

    job = a_job(rounds=1, weighted=False, privacy=CentralPrivacy(0.0, 1.0))
    (entry,) = conduct(echo, job, tmp_path).participation
    assert entry.rejected == {"north": "its update is zero, which has no norm to clip"}
