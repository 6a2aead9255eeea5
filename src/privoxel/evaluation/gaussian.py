"""Gaussian differential privacy: from the shift μ to δ(ε) and ε(δ), exactly.

A mechanism is μ-GDP when telling two neighbouring data sets apart is no easier than telling N(0, 1) from
N(μ, 1). A Gaussian mechanism of sensitivity s and noise σ is μ-GDP with μ = s / σ, and tightly so.
"""

import math

from scipy import optimize, special


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Return the smallest δ for which μ-GDP implies (ε, δ)-DP.

    References:
        Balle and Wang 2018, theorem 8, with s / σ = μ; Dong, Roth and Su 2022.

    >>> round(gaussian_delta(1.0, 0.0), 4)
    0.3829

    Raises:
        ValueError: if ``mu`` or ``epsilon`` is negative.
    """
    if mu < 0.0 or epsilon < 0.0:
        raise ValueError(f"gaussian_delta needs mu and epsilon of at least 0, got {mu} and {epsilon}.")
    if mu == 0.0:
        return 0.0
    first = special.ndtr(mu / 2.0 - epsilon / mu)
    second = math.exp(epsilon + float(special.log_ndtr(-mu / 2.0 - epsilon / mu)))
    return float(max(first - second, 0.0))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the smallest ε ≥ 0 for which μ-GDP implies (ε, δ)-DP; infinite for δ = 0 and μ > 0.

    >>> round(gaussian_epsilon(1.0, 1e-5), 3)
    4.377

    Raises:
        ValueError: if ``mu`` is negative or ``delta`` not in 0-1.
    """
    if mu < 0.0 or not 0.0 <= delta <= 1.0:
        raise ValueError(f"gaussian_epsilon needs mu >= 0 and delta in 0-1, got {mu} and {delta}.")
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    if delta == 0.0:
        return math.inf
    high = 1.0
    while gaussian_delta(mu, high) > delta:
        high *= 2.0
    return float(optimize.brentq(lambda epsilon: gaussian_delta(mu, epsilon) - delta, 0.0, high, xtol=1e-10))
