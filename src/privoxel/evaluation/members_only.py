"""What errors on members alone can say: how large they are, and who is fitted unlike others.

Without people whom the model never saw, fitting well and remembering look the same, so nothing here is an
attack or a verdict. Rows are participants; what is said of one of them belongs to the data's owner.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from privoxel.arrays import BoolArray, FloatArray, as_vector
from privoxel.evaluation.intervals import clopper_pearson, t_quantile

WINDOW = 40
"""Others of the nearest ages that a participant is compared with."""

FEWEST = 20
"""Participants below which there are no neighbours to speak of."""

FAR = 3.0
"""Robust z-score beyond which an error is called unusual."""

NEAR = 0.05
"""Chance of an error as near to zero, below which a participant is called closely fitted."""

BAND = 10.0
SCALE_OF_NORMAL = 1.4826
"""SD of a normal distribution over its median absolute deviation."""


class Fit(NamedTuple):
    """How each participant is fitted, beside the others of the nearest ages.

    ``middle`` and ``spread``: median of their signed errors, and SD from the median absolute deviation
    (years). ``z``: (error − middle) / spread. ``chance``: probability that a normal error of that middle and
    spread lies as near to zero.
    """

    middle: FloatArray
    spread: FloatArray
    z: FloatArray
    chance: FloatArray

    @property
    def is_hard(self) -> BoolArray:
        """Who has an error unlike that of others of the age."""
        return np.abs(self.z) > FAR

    @property
    def is_close(self) -> BoolArray:
        """Who is fitted more closely than others of the age."""
        return self.chance < NEAR


class Band(NamedTuple):
    """Errors of ``size`` participants from ``low`` to below ``high`` years: MAE, its interval, mean."""

    low: float
    high: float
    size: int
    mae: float
    mae_low: float
    mae_high: float
    mean: float


class Tail(NamedTuple):
    """A share of participants with its exact binomial interval, and the share that chance gives."""

    share: float
    low: float
    high: float
    by_chance: float

    @property
    def is_more(self) -> bool:
        """Whether more participants are in it than chance gives."""
        return self.low > self.by_chance


def fit_among_neighbours(age: FloatArray, error: FloatArray, *, window: int = WINDOW) -> Fit:
    """Return how each participant's signed error (years) compares with those of the nearest ages.

    Nobody is among their own neighbours. Where neighbours have no spread, z and chance are NaN.

    Raises:
        ValueError: if there are fewer than ``FEWEST`` participants.
    """
    ages, errors = as_vector(age, "age"), as_vector(error, "error")
    n = len(ages)
    if n < FEWEST:
        raise ValueError(f"Neighbours in age need {FEWEST} participants, got {n}. Bring more members.")
    order = np.argsort(ages, kind="stable")
    middle, spread = np.empty(n), np.empty(n)
    for place, row in enumerate(order):
        around = order[max(0, place - window) : place + window + 1]
        others = around[around != row]
        nearest = others[np.argsort(np.abs(ages[others] - ages[row]), kind="stable")[:window]]
        middle[row] = np.median(errors[nearest])
        spread[row] = SCALE_OF_NORMAL * np.median(np.abs(errors[nearest] - middle[row]))
    scale = np.where(spread > 0.0, spread, np.nan)
    size = np.abs(errors)
    chance = special.ndtr((size - middle) / scale) - special.ndtr((-size - middle) / scale)
    return Fit(middle, spread, (errors - middle) / scale, chance)


def tail(flagged: BoolArray, by_chance: float) -> Tail:
    """Return the share of flagged participants beside the one that chance gives."""
    share = float(np.mean(flagged))
    return Tail(share, *clopper_pearson(share, len(flagged)), by_chance)


def hard_tail(fit: Fit) -> Tail:
    """Return how many have unusual errors; of normal ones 0.27 % lie beyond three SD."""
    return tail(fit.is_hard, float(2.0 * special.ndtr(-FAR)))


def close_tail(fit: Fit) -> Tail:
    """Return how many are fitted closely; of normal errors one in twenty is."""
    return tail(fit.is_close, NEAR)


def errors_by_age(age: FloatArray, error: FloatArray, *, smallest: int, width: float = BAND) -> list[Band]:
    """Return the errors (years) in bands of ``width`` years; bands of fewer than ``smallest`` join the next.

    The last band joins the one before. Empty if there are fewer than ``smallest`` participants at all. The
    interval is Student's t.
    """
    ages, errors = as_vector(age, "age"), as_vector(error, "error")
    edges = np.arange(np.floor(ages.min() / width), np.floor(ages.max() / width) + 2) * width
    groups: list[list[float]] = []
    start = edges[0]
    for end in edges[1:]:
        if np.count_nonzero((ages >= start) & (ages < end)) >= smallest:
            groups.append([start, end])
            start = end
    if groups:
        groups[-1][1] = edges[-1]
    return [_band(low, high, errors[(ages >= low) & (ages < high)]) for low, high in groups]


def _band(low: float, high: float, errors: FloatArray) -> Band:
    mae, below, above = mean_with_interval(np.abs(errors))
    return Band(float(low), float(high), len(errors), mae, below, above, float(np.mean(errors)))


def mean_with_interval(values: FloatArray, level: float = 0.95) -> tuple[float, float, float]:
    """Return the mean and its interval by Student's t; the interval is unbounded for a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, -np.inf, np.inf
    half = t_quantile(level, len(values) - 1) * float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return mean, mean - half, mean + half
