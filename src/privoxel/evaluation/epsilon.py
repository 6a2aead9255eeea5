"""Lower bounds on the ε of differential privacy that a training provably exceeds, from attack scores.

Every bound lies above the true ε in at most α = 1 - level of the audits, given what it assumes:

- ``FixedThresholds`` and ``HeldOutThreshold`` assume that the scores are independent: one canary a training,
  or scores of one training that do not influence each other. The same holds with ``gaussian=True``, which
  also assumes that the mechanism is a Gaussian one and is not valid for others.
- ``OneRun`` assumes nothing of the kind, but every canary must have been included by its own fair coin.
  With ``gaussian=True`` it tests the hypothesis that the training is μ-GDP.

A bound of 0 means that nothing was shown; it is not evidence of privacy.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, final

import numpy as np
from scipy import special, stats

from privoxel.arrays import BoolArray, FloatArray, as_mask, as_vector
from privoxel.evaluation.gaussian import gaussian_epsilon
from privoxel.evaluation.scored import Evaluated

_MOST = 64.0
_HALVINGS = 60


class EpsilonBound(NamedTuple):
    """``epsilon`` is exceeded by the training with confidence ``level``, for this ``delta``.

    ``mu`` is the lower bound on the shift of Gaussian DP where the method has one. ``points`` is how many
    thresholds the level was shared among.
    """

    epsilon: float
    delta: float
    level: float
    method: str
    points: int = 1
    mu: float | None = None


@final
@dataclass(frozen=True)
class Canaries:
    """One score and one membership a participant (or inserted canary), higher = more likely included.

    ``coin``: whether each was included by its own fair coin, thrown before training. It is False unless the
    record of the run says so: a split that fixes the number of members is not such a coin.
    """

    scores: FloatArray
    included: BoolArray
    coin: bool = False

    def __post_init__(self) -> None:
        scores = as_vector(self.scores, "scores")
        included = as_mask(self.included, "included", len(scores))
        if included.all() or not included.any():
            raise ValueError(
                f"Canaries need some included and some left out, got {int(included.sum())} of "
                f"{len(included)} included. Insert more."
            )


def canaries_of(evaluated: Evaluated, *, coin: bool = False) -> Canaries:
    """Return one score a participant: how far above the attackers' thresholds their scans lie, on average.

    ``coin`` as in ``Canaries``; one-run bounds then need the scores of an attacker who was told nobody's
    membership of those whom it judges, so of a single repeat.

    Raises:
        ValueError: if ``coin`` and there are several repeats: attackers learnt from each other's judged.
    """
    if coin and len(evaluated.scores) > 1:
        raise ValueError(
            f"Canaries by coins need the scores of one attacker, got {len(evaluated.scores)} who may have "
            "learnt from those whom others judge. Take one repeat."
        )
    above = evaluated.scores - evaluated.thresholds[:, None]
    people, first, codes = np.unique(evaluated.participants, return_index=True, return_inverse=True)
    judged = ~np.isnan(above)
    totals = np.bincount(codes, np.where(judged, above, 0.0).sum(axis=0), minlength=len(people))
    counts = np.bincount(codes, judged.sum(axis=0), minlength=len(people))
    seen = counts > 0
    scores: FloatArray = totals[seen] / counts[seen]
    return Canaries(scores, evaluated.members[first][seen], coin)


class EpsilonStrategy(Protocol):
    """A way to bound ε; implementations are frozen dataclasses, with everything chosen beforehand."""

    def bound(self, canaries: Canaries, delta: float, rng: np.random.Generator) -> EpsilonBound:
        """Return the lower bound on ε at ``delta``; ``rng`` splits participants and breaks ties."""
        ...


class _Rates(NamedTuple):
    """Bounds that hold together: the true-positive rate is at least, the false-positive rate at most."""

    tpr: float
    fpr: float


@final
@dataclass(frozen=True)
class FixedThresholds:
    """Clopper-Pearson bounds of TPR and FPR at thresholds named before the scores were seen.

    α is shared evenly (Bonferroni) among two bounds at each of the thresholds. ``gaussian`` bounds μ and
    turns it into ε(δ), which gains much where the mechanism is known to be Gaussian.

    References:
        Jagielski et al. 2020 (Clopper-Pearson bounds); Nasr et al. 2023 (bound of μ).
    """

    thresholds: tuple[float, ...]
    level: float = 0.95
    gaussian: bool = False

    def __post_init__(self) -> None:
        _check_level(self.level)
        if not self.thresholds:
            raise ValueError("FixedThresholds needs at least one threshold, got none. Name one beforehand.")

    def bound(self, canaries: Canaries, delta: float, rng: np.random.Generator) -> EpsilonBound:  # noqa: ARG002
        """Return the best bound over the thresholds; ``rng`` is not used."""
        _check_delta(delta)
        points = len(self.thresholds)
        tail = (1.0 - self.level) / (2.0 * points)
        rates = [_bounded_rates(canaries, threshold, tail) for threshold in self.thresholds]
        name = f"Clopper-Pearson at {points} fixed threshold{'s' if points > 1 else ''}"
        if self.gaussian:
            mu = max(gaussian_shift(*each) for each in rates)
            method = f"{name}, Gaussian mechanism assumed"
            return EpsilonBound(gaussian_epsilon(mu, delta), delta, self.level, method, points, mu)
        epsilon = max(epsilon_of_rates(*each, delta) for each in rates)
        return EpsilonBound(epsilon, delta, self.level, name, points)


@final
@dataclass(frozen=True)
class HeldOutThreshold:
    """The threshold is chosen on one half of each class and bounded on the other, at the full level."""

    level: float = 0.95
    gaussian: bool = False
    candidates: int = 40

    def __post_init__(self) -> None:
        _check_level(self.level)

    def bound(self, canaries: Canaries, delta: float, rng: np.random.Generator) -> EpsilonBound:
        """Return the bound at the threshold that gave the best bound on the first half.

        Raises:
            ValueError: if a class has fewer than two.
        """
        _check_delta(delta)
        first = _first_half(canaries.included, rng)
        chooser = Canaries(canaries.scores[first], canaries.included[first])
        judge = Canaries(canaries.scores[~first], canaries.included[~first])
        tail = (1.0 - self.level) / 2.0

        def worth(threshold: float) -> float:
            rates = _bounded_rates(chooser, threshold, tail)
            return gaussian_shift(*rates) if self.gaussian else epsilon_of_rates(*rates, delta)

        offered = np.quantile(chooser.scores, np.linspace(0.0, 1.0, self.candidates + 2)[1:-1])
        best = max(map(float, np.unique(offered)), key=worth)
        found = FixedThresholds((best,), self.level, self.gaussian).bound(judge, delta, rng)
        return found._replace(method=found.method.replace("1 fixed threshold", "a held-out threshold"))


@final
@dataclass(frozen=True)
class OneRun:
    """One training with canaries: how many of ``r`` guesses are right, against the most that privacy allows.

    The highest ``guess_in`` scores are guessed to be included, the lowest ``guess_out`` left out, the
    rest are abstained from; both counts are fixed beforehand. The bound is the largest ε that is rejected at
    δ; with ``gaussian`` it is ε(δ) of the largest rejected μ of Gaussian DP.

    References:
        Steinke, Nasr and Jagielski 2023, appendix D. With ``gaussian``: Mahloujifar, Melis and Chaudhuri
        2024, "Auditing f-differential privacy in one run"; the recursion for two outcomes a canary, read in
        the PrivacyGuard library's implementation, not in the paper itself.
    """

    guess_in: int
    guess_out: int
    level: float = 0.95
    gaussian: bool = False

    def __post_init__(self) -> None:
        _check_level(self.level)

    def bound(self, canaries: Canaries, delta: float, rng: np.random.Generator) -> EpsilonBound:
        """Return the largest ε that the number of right guesses rejects.

        Raises:
            ValueError: if inclusion was not by independent coins, or there are fewer canaries than guesses.
        """
        _check_delta(delta)
        right = _right_guesses(self, canaries, rng)
        guesses, total = self.guess_in + self.guess_out, len(canaries.scores)
        alpha, counts = 1.0 - self.level, f"{right} of {guesses} guesses right, {total} canaries"
        if self.gaussian:
            mu = _largest_rejected(lambda value: rejects_gaussian(right, guesses, total, value, alpha))
            method = f"one run, f-DP, {counts}"
            return EpsilonBound(gaussian_epsilon(mu, delta), delta, self.level, method, mu=mu)
        epsilon = _largest_rejected(lambda value: one_run_tail(right, guesses, total, value, delta) <= alpha)
        return EpsilonBound(epsilon, delta, self.level, f"one run, {counts}")


def epsilon_of_rates(tpr: float, fpr: float, delta: float) -> float:
    """Return the ε that a test of at least ``tpr`` and at most ``fpr`` proves, at least 0.

    Both directions count: TPR ≤ e^ε FPR + δ and TNR ≤ e^ε FNR + δ (Kairouz et al. 2015).

    >>> round(epsilon_of_rates(0.5, 0.1, 0.0), 4)
    1.6094
    """
    pairs = ((tpr - delta, fpr), (1.0 - fpr - delta, 1.0 - tpr))
    shown = [math.log(high / low) for high, low in pairs if high > 0.0 and low > 0.0]
    return max([0.0, *shown])


def gaussian_shift(tpr: float, fpr: float) -> float:
    """Return the μ that a test of at least ``tpr`` and at most ``fpr`` proves: Φ⁻¹(TPR) - Φ⁻¹(FPR), or 0."""
    if tpr <= fpr:
        return 0.0
    return float(special.ndtri(tpr) - special.ndtri(fpr))


def one_run_tail(right: int, guesses: int, total: int, epsilon: float, delta: float) -> float:
    """Return the most likely that ``right`` or more of ``guesses`` are, over all (ε, δ)-DP trainings.

    The binomial tail at e^ε / (1 + e^ε), and for δ > 0 the added 2 m δ max over i of P[v > Bin ≥ v - i] / i.
    """
    chance = float(special.expit(epsilon))
    tail = float(stats.binom.sf(right - 1, guesses, chance))
    if delta == 0.0 or right == 0:
        return min(tail, 1.0)
    below = np.cumsum(stats.binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))
    slope = float(np.max(below / np.arange(1, right + 1)))
    return min(tail + 2.0 * total * delta * slope, 1.0)


def rejects_gaussian(right: int, guesses: int, total: int, mu: float, alpha: float) -> bool:
    """Return whether ``right`` of ``guesses`` is less likely than ``alpha`` under every μ-GDP training.

    Were it as likely, the recursion's lower bounds on the share of right (r) and wrong (h) guesses could not
    add up to more than the share of canaries that are guessed.
    """
    share = alpha * guesses / total
    r, h = share * right / guesses, share * (guesses - right) / guesses
    for i in range(right - 1, -1, -1):
        raised = max(h, float(special.ndtr(special.ndtri(r) - mu)) if r < 1.0 else 1.0)
        r, h = r + i / (guesses - i) * (raised - h), raised
        if r + h > guesses / total:
            return True
    return r + h > guesses / total


def _largest_rejected(rejected: Callable[[float], bool]) -> float:
    """Return the largest value that is rejected (values above it are not), 0 where none is."""
    if not rejected(0.0):
        return 0.0
    low, high = 0.0, _MOST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low


def _right_guesses(strategy: OneRun, canaries: Canaries, rng: np.random.Generator) -> int:
    total = len(canaries.scores)
    if not canaries.coin:
        raise ValueError(
            "A one-run bound needs canaries that were each included by a fair coin of their own, got a "
            "record without it (coin=False). Insert canaries at random before training, or use "
            "FixedThresholds."
        )
    if min(strategy.guess_in, strategy.guess_out) < 0 or not (
        0 < strategy.guess_in + strategy.guess_out <= total
    ):
        raise ValueError(
            f"A one-run bound needs 1 to {total} guesses, got {strategy.guess_in} + {strategy.guess_out}. "
            "Guess fewer or insert more canaries."
        )
    order = np.lexsort((rng.random(total), canaries.scores))
    hits = canaries.included[order[total - strategy.guess_in :]].sum()
    return int(hits + (~canaries.included[order[: strategy.guess_out]]).sum())


def _bounded_rates(canaries: Canaries, threshold: float, tail: float) -> _Rates:
    """Return exact one-sided bounds, each wrong with probability ``tail`` at most."""
    called = canaries.scores > threshold
    hits, members = int(called[canaries.included].sum()), int(canaries.included.sum())
    alarms, others = int(called[~canaries.included].sum()), int((~canaries.included).sum())
    low = float(special.betaincinv(hits, members - hits + 1.0, tail)) if hits else 0.0
    high = float(special.betaincinv(alarms + 1.0, others - alarms, 1.0 - tail)) if alarms < others else 1.0
    return _Rates(low, high)


def _first_half(included: BoolArray, rng: np.random.Generator) -> BoolArray:
    first = np.zeros(len(included), dtype=np.bool_)
    for group in (np.flatnonzero(included), np.flatnonzero(~included)):
        if len(group) < 2:
            raise ValueError(
                f"A held-out half needs 2 of each class, got {len(group)}. Insert more canaries."
            )
        first[rng.permutation(group)[: len(group) // 2]] = True
    return first


def _check_level(level: float) -> None:
    if not 0.5 < level < 1.0:
        raise ValueError(f"A bound on epsilon needs a level between 0.5 and 1, got {level}. Give 0.95.")


def _check_delta(delta: float) -> None:
    if not 0.0 <= delta < 1.0:
        raise ValueError(f"A bound on epsilon needs a delta in [0, 1), got {delta}. Give 1e-5 or so.")
