"""A lower bound on ε exceeds the true ε of mechanisms with known ε in at most α of the repetitions."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from privoxel.evaluation.epsilon import (
    Canaries,
    FixedThresholds,
    HeldOutThreshold,
    OneRun,
)
from privoxel.evaluation.gaussian import gaussian_epsilon

pytestmark = pytest.mark.slow

REPETITIONS = 1000
DELTA = 1e-5
MANY = 41


def gaussian(size: int, mu: float, rng: np.random.Generator) -> Canaries:
    included = rng.random(size) < 0.5
    return Canaries(rng.normal(size=size) + mu * included, included, coin=True)


def randomised_response(size: int, epsilon: float, rng: np.random.Generator) -> Canaries:
    included = rng.random(size) < 0.5
    truthful = rng.random(size) < 1.0 / (1.0 + math.exp(-epsilon))
    return Canaries((included == truthful).astype(float), included, coin=True)


def laplace(size: int, epsilon: float, rng: np.random.Generator) -> Canaries:
    included = rng.random(size) < 0.5
    return Canaries(included + rng.laplace(0.0, 1.0 / epsilon, size), included, coin=True)


PURE = {
    "one threshold": FixedThresholds((0.5,)),
    "five thresholds": FixedThresholds((-0.5, 0.0, 0.5, 1.0, 1.5)),
    "held out": HeldOutThreshold(),
    "one run": OneRun(40, 40),
    "one run, all guessed": OneRun(100, 100),
}
GAUSSIAN = PURE | {
    "GDP, one threshold": FixedThresholds((0.5,), gaussian=True),
    "GDP, five thresholds": FixedThresholds((-0.5, 0.0, 0.5, 1.0, 1.5), gaussian=True),
    "GDP, held out": HeldOutThreshold(gaussian=True),
    "f-DP, one run": OneRun(40, 40, gaussian=True),
    "f-DP, one run, all guessed": OneRun(100, 100, gaussian=True),
}


def assert_rarely_above(above: list[bool], alpha: float = 0.05) -> None:
    """At most α, with the simulation's own chance of a false failure at 1 in 10,000."""
    assert sum(above) <= binom.isf(1e-4, len(above), alpha)


@pytest.mark.parametrize("mechanism", [randomised_response, laplace])
@pytest.mark.parametrize("name", PURE)
@pytest.mark.parametrize("epsilon", [0.3, 1.0, 3.0])
def test_a_bound_exceeds_the_epsilon_of_a_pure_mechanism_in_at_most_alpha(mechanism, name, epsilon):
    rng = np.random.default_rng(31)
    found = [PURE[name].bound(mechanism(200, epsilon, rng), 0.0, rng).epsilon for _ in range(REPETITIONS)]
    assert_rarely_above([bound > epsilon for bound in found])


@pytest.mark.parametrize("name", GAUSSIAN)
@pytest.mark.parametrize("mu", [0.0, 0.5, 1.0, 2.0])
def test_a_bound_exceeds_the_epsilon_of_a_gaussian_mechanism_in_at_most_alpha(name, mu):
    rng, truth = np.random.default_rng(32), gaussian_epsilon(mu, DELTA)
    found = [GAUSSIAN[name].bound(gaussian(200, mu, rng), DELTA, rng).epsilon for _ in range(REPETITIONS)]
    assert_rarely_above([bound > truth for bound in found])


def best_bound_above(truth: float, level: float, rng: np.random.Generator) -> bool:
    """Return whether the best of 41 attacks, each with scores of its own, claims more than ``truth``."""
    strategy = FixedThresholds((0.5,), level)
    attacks = (randomised_response(200, truth, rng) for _ in range(MANY))
    return max(strategy.bound(canaries, 0.0, rng).epsilon for canaries in attacks) > truth


def test_the_best_of_many_attacks_breaks_the_promise_unless_the_level_is_shared_among_them():
    rng = np.random.default_rng(33)
    with pytest.raises(AssertionError):
        assert_rarely_above([best_bound_above(1.0, 0.95, rng) for _ in range(REPETITIONS // 4)])
    assert_rarely_above([best_bound_above(1.0, 1.0 - 0.05 / MANY, rng) for _ in range(REPETITIONS // 4)])


@pytest.mark.parametrize("name", ["one threshold", "one run", "GDP, one threshold", "f-DP, one run"])
def test_a_bound_has_power_on_a_mechanism_with_little_privacy(name):
    rng = np.random.default_rng(34)
    found = [GAUSSIAN[name].bound(gaussian(200, 3.0, rng), DELTA, rng).epsilon for _ in range(200)]
    assert np.median(found) > 1.0
