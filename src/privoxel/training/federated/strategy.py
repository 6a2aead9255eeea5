"""Which of Flower's strategies a job means, and what their optimiser knows between rounds."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
    FedProx,
    Strategy,
)

from privoxel.arrays import Float32Array
from privoxel.training.federated.job import FederationJob
from privoxel.training.federated.privacy import CentralPrivacy

CLIPPING_NORM = "clipping_norm"


def strategy_of(job: FederationJob, learners: int) -> Strategy:
    """Return the Flower strategy that ``job`` names, wrapped in its central differential privacy."""
    shared: dict[str, Any] = {
        "fraction_evaluate": 0.0,
        "min_train_nodes": 1,
        "min_available_nodes": 1,
        "weighted_by_key": "num-examples" if job.weighted else "once",
    }
    if job.strategy == "fedprox":
        base: FedAvg = FedProx(**shared, proximal_mu=job.proximal_mu)
    elif job.strategy == "fedadam":
        beta_1, beta_2 = job.server_betas
        base = FedAdam(
            **shared, eta=job.server_learning_rate, beta_1=beta_1, beta_2=beta_2, tau=job.server_tau
        )
    else:
        base = FedAvg(**shared)
    return _private(base, job, learners)


class _DelayedNorm:
    """Adaptive clipping as in Andrew et al. 2021, algorithm 1, over Flower's two classes.

    Flower 1.41 lowers the norm when too many updates are clipped, so that it runs away from the target, and
    calibrates the noise of a round to the norm of the next one. Here the norm rises with the clipped share,
    and after the round.
    """

    clipping_norm: float
    clip_norm_lr: float
    target_clipped_quantile: float
    next_norm: float | None = None

    def _geometric_update(self, clipped_fraction: float) -> None:
        excess = clipped_fraction - self.target_clipped_quantile
        self.next_norm = self.clipping_norm * float(np.exp(self.clip_norm_lr * excess))


@final
class _ServerAdaptive(_DelayedNorm, DifferentialPrivacyServerSideAdaptiveClipping):
    pass


@final
class _LearnerAdaptive(_DelayedNorm, DifferentialPrivacyClientSideAdaptiveClipping):
    pass


def _private(base: FedAvg, job: FederationJob, learners: int) -> Strategy:
    privacy = job.privacy
    if not isinstance(privacy, CentralPrivacy):
        return base
    if privacy.clipping == "fixed":
        fixed = (
            DifferentialPrivacyServerSideFixedClipping
            if privacy.clipped_by == "server"
            else DifferentialPrivacyClientSideFixedClipping
        )
        return fixed(base, privacy.noise_multiplier, privacy.clipping_norm, learners)
    adaptive = _ServerAdaptive if privacy.clipped_by == "server" else _LearnerAdaptive
    return adaptive(
        base,
        privacy.noise_multiplier,
        learners,
        privacy.clipping_norm,
        privacy.target_clipped,
        privacy.norm_rate,
        privacy.count_sd,
    )


def count_updates(strategy: Strategy, updates: int) -> None:
    """Tell differential privacy how many updates the mean is of, which its noise is divided by."""
    if hasattr(strategy, "num_sampled_clients"):
        strategy.num_sampled_clients = updates


def adapt_norm(strategy: Strategy) -> float | None:
    """Move an adaptive clipping norm on to the next round, and return the one just used (or None)."""
    if not isinstance(strategy, _DelayedNorm):
        return None
    used = strategy.clipping_norm
    strategy.clipping_norm = strategy.next_norm or used
    return used


def state_of(strategy: Strategy) -> dict[str, Float32Array]:
    """Return what ``strategy`` remembers from round to round: Adam's moments, the adaptive norm."""
    base = getattr(strategy, "strategy", strategy)
    state: dict[str, Float32Array] = {}
    if isinstance(base, FedAdam):
        for moment in ("m_t", "v_t"):
            values = getattr(base, moment) or {}
            state |= {f"{moment}/{name}": np.asarray(value) for name, value in values.items()}
    if isinstance(strategy, _DelayedNorm):
        state[CLIPPING_NORM] = np.array([strategy.clipping_norm])
    return state


def restore_state(strategy: Strategy, state: Mapping[str, Float32Array]) -> None:
    """Give ``strategy`` back what ``state_of`` returned."""
    base = getattr(strategy, "strategy", strategy)
    if isinstance(base, FedAdam):
        for moment in ("m_t", "v_t"):
            prefix = f"{moment}/"
            kept = {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
            setattr(base, moment, kept or None)
    if isinstance(strategy, _DelayedNorm) and CLIPPING_NORM in state:
        strategy.clipping_norm = float(state[CLIPPING_NORM][0])
