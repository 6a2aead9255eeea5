"""Lower bounds on ε: closed forms and slow twins."""

import math

import numpy as np
import pytest
from scipy import integrate
from scipy.stats import beta, binom, norm

from privoxel.evaluation.epsilon import (
    Canaries,
    FixedThresholds,
    HeldOutThreshold,
    OneRun,
    epsilon_of_rates,
    gaussian_shift,
    one_run_tail,
    rejects_gaussian,
)
from privoxel.evaluation.gaussian import gaussian_delta, gaussian_epsilon


def perfect(members: int, others: int, *, coin: bool = True) -> Canaries:
    included = np.arange(members + others) < members
    return Canaries(included * 2.0 - 1.0, included, coin=coin)


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("epsilon", [0.0, 0.7, 3.0])
def test_delta_is_the_hockey_stick_divergence_of_two_normals(mu, epsilon):
    def excess(x: float) -> float:
        return max(norm.pdf(x, mu) - math.exp(epsilon) * norm.pdf(x), 0.0)

    crossing = epsilon / mu + mu / 2.0
    expected = integrate.quad(excess, crossing, crossing + 12.0)[0]
    assert gaussian_delta(mu, epsilon) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("mu", [0.1, 1.0, 6.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 0.01])
def test_epsilon_inverts_delta(mu, delta):
    epsilon = gaussian_epsilon(mu, delta)
    assert gaussian_delta(mu, epsilon) == pytest.approx(delta, rel=1e-4)


def test_without_a_shift_there_is_no_epsilon_and_without_delta_an_infinite_one():
    assert gaussian_epsilon(0.0, 0.0) == 0.0
    assert gaussian_epsilon(1.0, 0.0) == math.inf


def test_a_perfect_attack_is_bounded_by_the_exact_rates_of_its_numbers():
    members, others = 23, 31
    low, high = beta.ppf(0.025, members, 1), beta.ppf(0.975, 1, others)
    found = FixedThresholds((0.0,)).bound(perfect(members, others), 0.0, np.random.default_rng(0))
    assert found.epsilon == pytest.approx(max(math.log(low / high), math.log((1 - high) / (1 - low))))
    gdp = FixedThresholds((0.0,), gaussian=True).bound(
        perfect(members, others), 1e-5, np.random.default_rng(0)
    )
    assert gdp.mu == pytest.approx(norm.ppf(low) - norm.ppf(high))
    assert gdp.epsilon == pytest.approx(gaussian_epsilon(gdp.mu, 1e-5))


def test_more_thresholds_share_the_same_level():
    rng, canaries = np.random.default_rng(0), perfect(40, 40)
    one = FixedThresholds((0.0,)).bound(canaries, 0.0, rng)
    many = FixedThresholds((0.0, 0.1, 0.2)).bound(canaries, 0.0, rng)
    assert many.epsilon < one.epsilon
    assert (one.points, many.points) == (1, 3)
    assert many.epsilon == pytest.approx(
        FixedThresholds((0.0,), level=1.0 - 0.05 / 3.0).bound(canaries, 0.0, rng).epsilon
    )


def test_both_directions_of_the_test_count():
    assert epsilon_of_rates(0.9, 0.5, 0.0) == pytest.approx(math.log(0.5 / 0.1))
    assert epsilon_of_rates(0.5, 0.1, 0.1) == pytest.approx(math.log(0.4 / 0.1))
    assert epsilon_of_rates(0.1, 0.2, 0.0) == 0.0
    assert gaussian_shift(0.1, 0.2) == 0.0


def test_all_right_in_one_run_has_a_closed_form():
    guesses = 50
    found = OneRun(25, 25).bound(perfect(30, 30), 0.0, np.random.default_rng(0))
    chance = 0.05 ** (1.0 / guesses)
    assert found.epsilon == pytest.approx(math.log(chance / (1.0 - chance)), abs=1e-9)


@pytest.mark.parametrize(("right", "guesses", "total"), [(7, 11, 23), (1, 3, 3), (40, 50, 90)])
def test_the_tail_of_one_run_agrees_with_its_sum_written_out(right, guesses, total):
    epsilon, delta = 0.8, 1e-3
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    pmf = [math.comb(guesses, k) * q**k * (1 - q) ** (guesses - k) for k in range(guesses + 1)]
    worst = max(sum(pmf[right - i : right]) / i for i in range(1, right + 1))
    expected = min(sum(pmf[right:]) + 2 * total * delta * worst, 1.0)
    assert one_run_tail(right, guesses, total, epsilon, delta) == pytest.approx(expected)


def test_f_dp_at_no_shift_rejects_only_what_the_binomial_rejects():
    guesses = total = 60
    for right in range(30, 61):
        if rejects_gaussian(right, guesses, total, 0.0, 0.05):
            assert binom.sf(right - 1, guesses, 0.5) <= 0.05
    assert rejects_gaussian(50, guesses, total, 0.0, 0.05)


def test_f_dp_rejects_less_the_larger_the_shift():
    rejected = [rejects_gaussian(80, 100, 100, mu, 0.05) for mu in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert rejected == sorted(rejected, reverse=True)
    assert rejected[0]
    assert not rejected[-1]


@pytest.mark.parametrize("strategy", [OneRun(3, 3), OneRun(3, 3, gaussian=True)])
def test_one_run_refuses_canaries_without_a_coin(strategy):
    with pytest.raises(ValueError, match="fair coin"):
        strategy.bound(perfect(9, 9, coin=False), 1e-5, np.random.default_rng(0))


@pytest.mark.parametrize("strategy", [OneRun(30, 3), OneRun(-1, 3, gaussian=True), OneRun(0, 0)])
def test_one_run_refuses_guesses_that_the_canaries_cannot_serve(strategy):
    with pytest.raises(ValueError, match="guesses"):
        strategy.bound(perfect(9, 9), 1e-5, np.random.default_rng(0))


def test_tied_scores_are_guessed_at_random_and_not_by_their_row():
    included = np.arange(2000) < 1000
    found = OneRun(500, 500).bound(
        Canaries(np.zeros(2000), included, coin=True), 0.0, np.random.default_rng(1)
    )
    assert found.epsilon < 0.2


def test_a_held_out_threshold_is_bounded_on_the_other_half():
    found = HeldOutThreshold().bound(perfect(40, 40), 0.0, np.random.default_rng(0))
    half = FixedThresholds((0.0,)).bound(perfect(20, 20), 0.0, np.random.default_rng(0))
    assert found.epsilon == pytest.approx(half.epsilon)
    assert "held-out" in found.method


def test_what_cannot_be_bounded_is_refused():
    with pytest.raises(ValueError, match="included"):
        Canaries(np.zeros(3), np.ones(3, dtype=bool))
    with pytest.raises(ValueError, match="level"):
        OneRun(1, 1, level=0.3)
    with pytest.raises(ValueError, match="threshold"):
        FixedThresholds(())
    with pytest.raises(ValueError, match="delta"):
        OneRun(1, 1).bound(perfect(3, 3), 1.0, np.random.default_rng(0))
