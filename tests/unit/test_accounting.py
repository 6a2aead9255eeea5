import math

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy.special import logsumexp
from scipy.stats import norm

from privoxel.errors import ConfigError
from privoxel.training.private.accounting import MEANINGLESS, ORDERS, Mechanism, Spent, noise_for, spent

DELTA = 1e-5
SETTINGS = [Mechanism(1.0, 0.05, 400), Mechanism(0.8, 0.02, 1000), Mechanism(2.0, 0.1, 50)]


def google_rdp(mechanism):
    event = dp.PoissonSampledDpEvent(mechanism.rate, dp.GaussianDpEvent(mechanism.noise_multiplier))
    return RdpAccountant(ORDERS).compose(event, mechanism.steps).get_epsilon(DELTA)


def google_pld(mechanism):
    event = dp.PoissonSampledDpEvent(mechanism.rate, dp.GaussianDpEvent(mechanism.noise_multiplier))
    return PLDAccountant().compose(event, mechanism.steps).get_epsilon(DELTA)


def rdp_by_quadrature(mechanism, order):
    """Return the Rényi divergence of one step (Mironov et al. 2019, 3.3), by a sum over a fine grid."""
    sd, rate = mechanism.noise_multiplier, mechanism.rate
    x = np.linspace(-40 * sd - 2, 40 * sd + 3 + order, 400_001)
    density = norm.logpdf(x, 0.0, sd) + np.log(x[1] - x[0])
    ratio = np.logaddexp(np.log1p(-rate), np.log(rate) + (2 * x - 1) / (2 * sd**2))
    return logsumexp(density + order * ratio) / (order - 1)


@pytest.mark.parametrize("mechanism", [*SETTINGS, Mechanism(0.2, 0.05, 2000), Mechanism(0.05, 0.05, 2000)])
def test_rdp_is_the_divergence_itself_also_for_orders_near_one(mechanism):
    bounds = [
        mechanism.steps * rdp_by_quadrature(mechanism, order)
        + math.log1p(-1 / order)
        - math.log(DELTA * order) / (order - 1)
        for order in ORDERS
    ]
    assert spent(mechanism, DELTA, "rdp").epsilon == pytest.approx(min(bounds), rel=1e-3)


@pytest.mark.parametrize("mechanism", SETTINGS)
def test_rdp_is_at_most_that_of_another_accountant_and_near_it(mechanism):
    other = google_rdp(mechanism)
    assert 0.98 * other <= spent(mechanism, DELTA, "rdp").epsilon <= other * (1 + 1e-6)


@pytest.mark.parametrize("mechanism", SETTINGS)
def test_prv_agrees_with_another_numerical_accountant(mechanism):
    assert spent(mechanism, DELTA, "prv").epsilon == pytest.approx(google_pld(mechanism), rel=0.01, abs=0.02)


def test_the_bound_lies_above_the_exact_value_of_one_unsampled_step():
    sigma = 1.5

    def delta_of(epsilon):  # Balle and Wang 2018, theorem 8
        return norm.cdf(0.5 / sigma - epsilon * sigma) - math.exp(epsilon) * norm.cdf(
            -0.5 / sigma - epsilon * sigma
        )

    grid = np.linspace(0, 10, 10_001)
    exact = grid[np.argmax([delta_of(e) <= DELTA for e in grid])]
    for accountant in ("rdp", "prv"):
        assert spent(Mechanism(sigma, 1.0, 1), DELTA, accountant).epsilon >= exact - 1e-3


def test_auto_takes_the_smaller_bound_and_rdp_where_prv_cannot_compute():
    assert spent(SETTINGS[0], DELTA).accountant == "prv"
    assert spent(Mechanism(0.3, 0.05, 10), DELTA).accountant == "rdp"
    with pytest.raises(ConfigError, match=r"at least 0\.5, got 0\.3"):
        spent(Mechanism(0.3, 0.05, 10), DELTA, "prv")


@pytest.mark.parametrize("accountant", ["rdp", "auto"])
@pytest.mark.parametrize("epsilon", [0.5, 8.0, 200.0])
def test_the_noise_for_a_target_reaches_it_and_not_much_less(accountant, epsilon):
    noise = noise_for(epsilon, DELTA, 0.05, 300, accountant)
    reached = spent(Mechanism(noise, 0.05, 300), DELTA, accountant).epsilon
    assert 0.95 * epsilon <= reached <= epsilon


def test_nothing_is_spent_before_the_first_step_and_everything_without_noise():
    assert spent(Mechanism(1.0, 0.1, 0), DELTA).epsilon == 0.0
    assert spent(Mechanism(0.0, 0.1, 1), DELTA).epsilon == math.inf


def test_large_values_are_called_what_they_are():
    assert "no meaningful guarantee" in Spent(MEANINGLESS + 1, DELTA, "rdp").wording
    assert "infinite" in Spent(math.inf, DELTA, "rdp").wording
    assert Spent(3.0, DELTA, "prv").wording.startswith("ε = 3.00")
