"""How participants are dealt to learners: arrays of ages or age bins in, a learner for each of them out.

Labels are the numbers of learners, from 0 in the order in which they take their turns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.special import log_ndtr

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.cohort.nearest import NearestRemaining
from privoxel.cohort.partitions import apportion
from privoxel.cohort.splits import spread_evenly

PAPER_MEAN, PAPER_SD = 62.64, 7.42
"""Ages of the paper's 8,356 federated participants, years."""

NEAREST_SHARE = 7200 / 8356
"""Of a learner's participants in Uniform & non-IID: chosen by age; the rest is dealt out."""

MOST_EXTRA = 0.1
"""What the last learner of Uniform & IID may have above the others, as a share of them."""


def equal_sizes(participants: int, learners: int) -> tuple[int, ...]:
    """Return sizes that differ by one at most, the larger ones first."""
    return tuple(apportion(participants, np.ones(learners)).tolist())


def skewed_sizes(participants: int, learners: int, ratio: float) -> tuple[int, ...]:
    """Return sizes of which each is about ``ratio`` times the next, as the authors' script rounds them.

    The smallest learner is ⌊ratio·u⌋ with u = ⌊participants / Σ ratio^k⌋, k = 1 … learners; what the floors
    leave goes to the largest learners, ⌈rest / ratio⌉ at a time.

    >>> skewed_sizes(8356, 8, 1.35)
    (2401, 1765, 1303, 964, 714, 528, 391, 290)
    """
    powers = np.power(float(ratio), np.arange(learners, 0, -1))
    exact = participants / powers.sum()
    unit = np.floor(exact) or exact  # very small cohorts: a whole unit would leave nothing to scale
    sizes = np.floor(powers * unit + 1e-9).astype(np.int64)
    rest = participants - int(sizes.sum())
    place = 0
    while rest:
        more = int(np.ceil(rest / ratio))
        sizes[place % learners] += more
        rest -= more
        place += 1
    return tuple(sorted(sizes.tolist(), reverse=True))


def log_share_of_years(years: FloatArray, mean: float, sd: float) -> FloatArray:
    """Return the logarithm of the normal probability of each whole year, exact far out in the tails too."""
    low, high = (years - mean) / sd, (years + 1 - mean) / sd
    above = low > 0
    nearer, farther = np.where(above, -low, high), np.where(above, -high, low)  # both in the lower tail
    logs: FloatArray = log_ndtr(nearer) + np.log1p(-np.exp(log_ndtr(farther) - log_ndtr(nearer)))
    return logs


@final
@dataclass(frozen=True)
class AgeTargets:
    """The ages that learners look for: learner k normal around ``means[k % len(means)]``, years."""

    means: tuple[float, ...]
    sd: float

    def of(self, learner: int) -> float:
        """Return the mean age that a learner (from 0) looks for."""
        return self.means[learner % len(self.means)]

    def scaled_to(self, ages: FloatArray) -> "AgeTargets":
        """Return the targets as far from the mean of ``ages``, in SDs, as they are in the paper's cohort."""
        mean = float(ages.mean())
        factor = float(ages.std()) / PAPER_SD or 1.0  # of one age all targets are equally far
        return AgeTargets(tuple(mean + factor * (m - PAPER_MEAN) for m in self.means), factor * self.sd)


def log_mixtures(concentration: FloatArray, learners: int, rng: np.random.Generator) -> FloatArray:
    """Return the logarithms of a Dirichlet mixture for each learner, but for a constant: learners × bins.

    From Gamma(a) = Gamma(a + 1) · U^(1/a), so that bins keep their order where shares underflow.
    """
    shape = (learners, concentration.size)
    uniform = 1.0 - rng.random(shape)  # above 0
    logs: FloatArray = np.log(rng.gamma(concentration + 1.0, size=shape)) + np.log(uniform) / concentration
    return logs


def same_of_each_bin(bins: IntArray, learners: int, rng: np.random.Generator) -> IntArray:
    """Return labels that give every learner equally many of each bin; the rest goes to the last learner.

    If that is more than ``MOST_EXTRA`` of an equal share, it is spread over the learners instead.
    """
    labels = np.full(bins.size, -1, dtype=np.int64)
    for one_bin in np.unique(bins):
        members = rng.permutation(np.flatnonzero(bins == one_bin))
        even = members.size - members.size % learners
        labels[members[:even]] = np.arange(even) % learners
    rest = np.flatnonzero(labels < 0)
    if rest.size <= MOST_EXTRA * bins.size / learners:
        labels[rest] = learners - 1
    else:
        order = np.lexsort((rng.random(rest.size), bins[rest]))
        labels[rest] = spread_over(order, equal_sizes(rest.size, learners), rng)
    return labels


def spread_over(order: IntArray, sizes: Sequence[int], rng: np.random.Generator) -> IntArray:
    """Return labels such that those of each learner lie evenly from first to last in ``order``."""
    labels = np.empty(order.size, dtype=np.int64)
    labels[order] = spread_evenly(sizes, rng)
    return labels


def nearest_in_turn(
    ages: FloatArray, sizes: Sequence[int], targets: AgeTargets, rng: np.random.Generator
) -> IntArray:
    """Return labels drawn in turn: each learner an age, and who is nearest to it; then the rest dealt out."""
    chosen_sizes = [round(NEAREST_SHARE * size) for size in sizes]
    shuffled = rng.permutation(ages.size)  # who is taken among those of the same age
    free = NearestRemaining(ages[shuffled])
    labels = np.full(ages.size, -1, dtype=np.int64)
    for turn in range(max(chosen_sizes)):
        for learner, wanted in enumerate(chosen_sizes):
            if turn < wanted:
                nearest = free.take(rng.normal(targets.of(learner), targets.sd))
                labels[shuffled[nearest]] = learner
    rest = rng.permutation(shuffled[free.remaining()])
    labels[rest] = np.repeat(np.arange(len(sizes)), np.subtract(sizes, chosen_sizes))
    return labels


def cells_in_turn(
    cells: IntArray, log_weights: FloatArray, sizes: Sequence[int], rng: np.random.Generator
) -> IntArray:
    """Return labels drawn in turn: each learner a cell by its weights, if not empty, and one of it."""
    members = [rng.permutation(np.flatnonzero(cells == cell)) for cell in range(log_weights.shape[1])]
    left = np.array([m.size for m in members])
    labels = np.full(cells.size, -1, dtype=np.int64)
    for turn in range(max(sizes)):
        for learner, size in enumerate(sizes):
            if turn < size:
                cell = _draw_cell(log_weights[learner], left > 0, rng)
                left[cell] -= 1
                labels[members[cell][left[cell]]] = learner
    return labels


def _draw_cell(log_weights: FloatArray, is_open: BoolArray, rng: np.random.Generator) -> int:
    """Return an open cell with a probability proportional to its weight: what drawing again amounts to."""
    among = np.where(is_open, log_weights, -np.inf)
    weights = np.exp(among - among.max())
    cumulated = np.cumsum(weights)
    return int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))
