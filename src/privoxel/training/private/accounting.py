"""The privacy that a training spends: (ε, δ) of the Poisson-subsampled Gaussian mechanism.

RDP (Mironov et al. 2019) with orders down to 1.01, which large ε need, and, for noise of at least 0.5, where
its grid can be computed, the tighter PRV (Gopi et al. 2021). Both are upper bounds.
"""

import math
import warnings
from typing import NamedTuple, cast

from privoxel.errors import ConfigError
from privoxel.privacy_config import PRV_FROM

ORDERS = (
    *(1 + k / 100 for k in range(1, 10)),
    *(1 + k / 10 for k in range(1, 100)),
    *(float(k) for k in range(12, 64)),
    *(80.0, 96.0, 128.0, 192.0, 256.0, 512.0),
)
MEANINGLESS = 100.0
"""ε above which no guarantee is left that would mean anything: e^100 against 1."""

REFINEMENTS = 8


class Mechanism(NamedTuple):
    """What is repeated: the chance ``rate`` of a participant to be in a step, the noise, the steps."""

    noise_multiplier: float
    rate: float
    steps: int


class Spent(NamedTuple):
    """An upper bound of ε at ``delta``, and the accountant it comes from."""

    epsilon: float
    delta: float
    accountant: str

    @property
    def wording(self) -> str:
        """In words, as secret noise gives it (``private.wording.guarantee`` knows the randomness).

        >>> Spent(2.345, 1e-6, "prv").wording
        'ε = 2.35 at δ = 1e-06 (prv accountant)'
        """
        if self.epsilon > MEANINGLESS:
            shown = f"{self.epsilon:.3g}" if math.isfinite(self.epsilon) else "infinite"
            return f"no meaningful guarantee (ε = {shown} at δ = {self.delta:g})"
        return f"ε = {self.epsilon:.2f} at δ = {self.delta:g} ({self.accountant} accountant)"


def spent(mechanism: Mechanism, delta: float, accountant: str = "auto") -> Spent:
    """Return the ε that ``mechanism`` spends at ``delta``.

    Args:
        mechanism: noise, sampling rate and steps.
        delta: the probability δ that the bound leaves out.
        accountant: ``rdp``, ``prv``, or ``auto`` for the smaller of those that can be computed.

    Raises:
        ConfigError: if ``prv`` is asked for noise below 0.5.
    """
    check_accountant(accountant, mechanism.noise_multiplier)
    if mechanism.steps == 0:
        return Spent(0.0, delta, "rdp" if accountant == "auto" else accountant)
    if mechanism.noise_multiplier == 0:
        return Spent(math.inf, delta, "rdp" if accountant == "auto" else accountant)
    kinds = ("rdp", "prv") if accountant == "auto" else (accountant,)
    found = [
        Spent(_epsilon(kind, mechanism, delta), delta, kind)
        for kind in kinds
        if kind == "rdp" or mechanism.noise_multiplier >= PRV_FROM
    ]
    return min(found)


def check_accountant(accountant: str, noise: float) -> None:
    """Raise ``ConfigError`` if ``accountant`` cannot compute a noise multiplier of ``noise``."""
    if accountant == "prv" and noise < PRV_FROM:
        raise ConfigError(
            f"[privacy] accountant = 'prv' needs a noise multiplier of at least {PRV_FROM}, got {noise:.3g}. "
            "Take accountant = 'rdp' or 'auto'."
        )


def noise_for(epsilon: float, delta: float, rate: float, steps: int, accountant: str = "auto") -> float:
    """Return the least noise multiplier found whose ``steps`` spend at most ``epsilon``.

    Raises:
        ConfigError: as ``enough_noise``.
    """
    enough = enough_noise(epsilon, delta, rate, steps, accountant)
    if accountant == "rdp" or enough < PRV_FROM:
        return enough
    low, high = PRV_FROM, enough
    for _ in range(REFINEMENTS):
        middle = (low + high) / 2
        if _epsilon("prv", Mechanism(middle, rate, steps), delta) <= epsilon:
            high = middle
        else:
            low = middle
    return high


def enough_noise(epsilon: float, delta: float, rate: float, steps: int, accountant: str = "auto") -> float:
    """Return a noise multiplier whose ``steps`` spend at most ``epsilon`` by RDP: ``noise_for`` or more.

    Raises:
        ConfigError: if no noise is large enough, or so little is enough that ``accountant`` cannot
        compute it.
    """
    found = _noise_by_rdp(epsilon, delta, rate, steps) if math.isfinite(epsilon) else 0.0
    try:
        check_accountant(accountant, found)
    except ConfigError as error:
        raise ConfigError(f"{error} The noise follows from epsilon = {epsilon:g}.") from error
    return found


def _noise_by_rdp(epsilon: float, delta: float, rate: float, steps: int) -> float:
    from opacus.accountants.utils import get_noise_multiplier  # noqa: PLC0415 - seconds to import

    try:
        with warnings.catch_warnings(action="ignore"):
            return cast(
                float,
                get_noise_multiplier(
                    target_epsilon=epsilon,
                    target_delta=delta,
                    sample_rate=rate,
                    steps=steps,
                    accountant="rdp",
                    epsilon_tolerance=min(0.01, epsilon / 100),
                    alphas=list(ORDERS),
                ),
            )
    except ValueError as error:
        raise ConfigError(
            f"[privacy] epsilon = {epsilon:g} cannot be reached with {steps} steps at a sampling rate of "
            f"{rate:.3g}: {error}. Raise it, or train for fewer epochs."
        ) from error


def _epsilon(accountant: str, mechanism: Mechanism, delta: float) -> float:
    from opacus.accountants import create_accountant  # noqa: PLC0415

    account = create_accountant(mechanism=accountant)
    account.history = [tuple(mechanism)]
    with warnings.catch_warnings(action="ignore"):  # an extreme order: the bound holds, and may be loose
        if accountant == "rdp":
            return float(account.get_epsilon(delta=delta, alphas=list(ORDERS)))
        return float(account.get_epsilon(delta=delta, eps_error=0.01))
