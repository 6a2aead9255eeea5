"""The overfitting line: an attack's accuracy against how much less a model errs on its own members.

Gupta et al. 2021 (5.2) found accuracy = 50.9 % + 15.0 points · gap over their 26 private models, the gap
being test minus training MAE in years. ``fit_line`` is the same least-squares line with intervals. Two things
make it uncertain:

- the models: Student's t on the residuals, Fisher's z for the correlation;
- the participants: where all models are judged on the same people, their errors move all points together,
  which no residual shows. Draws of both quantities under resampled participants (``Resampled``) do. Their
  reach to either side is taken from their own median: noise in the gaps flattens the line, and drawing
  participants adds that noise once more.

The two are independent, so that variances add: on either side the interval reaches as far as the root of the
sum of both squared reaches (for the correlation on Fisher's z scale). What the participants do to one model
alone is in its residual as well, and counts twice: then intervals are a little too wide.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from privoxel.arrays import FloatArray, as_vector
from privoxel.evaluation.intervals import percentile_ends, t_quantile
from privoxel.evaluation.scored import Estimate

FEWEST = 3
"""Models below which a line says nothing."""
_NEARLY_ONE = 1.0 - 1e-12
"""The largest correlation that has a place on Fisher's z scale."""


class PublishedLine(NamedTuple):
    """A line of the paper: balanced accuracy (fraction) at no gap, its rise per year, and the correlation."""

    intercept: float
    slope: float
    r: float
    models: int


PUBLISHED: Mapping[str, PublishedLine] = MappingProxyType(
    {
        "all": PublishedLine(0.509, 0.150, 0.98, 26),
        "slice-mean": PublishedLine(0.507, 0.164, 0.991, 15),
        "cnn3d": PublishedLine(0.513, 0.121, 0.997, 11),
    }
)
"""The lines of Gupta et al. 2021, 5.2, refitted to the points of their figures 3, 7 and 8; ``all`` leads."""


LARGEST_PUBLISHED_GAP = 1.88
"""Years: the published line says nothing beyond."""


class Resampled(NamedTuple):
    """Gaps and accuracies of the same models when the participants are drawn anew: draws × models each."""

    gaps: FloatArray
    accuracies: FloatArray


class Line(NamedTuple):
    """Accuracy = ``intercept`` + ``slope`` · gap (years), over ``models`` models.

    ``intercept`` and ``residual_sd`` are balanced accuracies as fractions (0.509 for 50.9 %), ``slope`` is a
    fraction per year (0.15 for 15 points a year), ``r`` Pearson's correlation. ``mean_gap`` (years) and
    ``gap_squares`` (sum of squared deviations from it) give the band about the line, with ``drawn``: its
    intercept and slope under resampled participants, draws × 2, where all models share them.
    """

    intercept: Estimate
    slope: Estimate
    r: Estimate
    models: int
    residual_sd: float
    mean_gap: float
    gap_squares: float
    drawn: FloatArray | None = None

    def at(self, gap: float) -> Estimate:
        """Return the mean accuracy at ``gap`` (years), with the band of the line there.

        >>> line = fit_line([0.0, 1.0, 2.0, 3.0], [0.5, 0.66, 0.78, 0.96])
        >>> round(line.at(1.5).value, 3)
        0.725
        """
        level = self.slope.level
        value = (self.intercept.value or 0.0) + (self.slope.value or 0.0) * gap
        spread = math.sqrt(1.0 / self.models + (gap - self.mean_gap) ** 2 / self.gap_squares)
        reach = t_quantile(level, self.models - 2) * self.residual_sd * spread
        drawn = None if self.drawn is None else self.drawn @ np.array([1.0, gap])
        return Estimate(value, *_ends(value, reach, drawn, level), level, self.slope.method)


def fit_line(
    gaps: ArrayLike, accuracies: ArrayLike, *, resampled: Resampled | None = None, level: float = 0.95
) -> Line:
    """Return the least-squares line of ``accuracies`` on ``gaps``, with intervals, and their correlation.

    Args:
        gaps: test minus training MAE of each model, years.
        accuracies: balanced accuracy of one attack on each model, fractions, in the same order. An attack
            that was fixed beforehand: the best of many is above one half where nothing leaks.
        resampled: the same two under resampled participants, where all models share them.
        level: of the intervals.

    Raises:
        ValueError: if there are fewer than three models, the two differ in length, or all gaps are equal.

    >>> line = fit_line([0.0, 1.0, 2.0, 3.0], [0.5, 0.66, 0.78, 0.96])
    >>> round(line.intercept.value, 3), round(line.slope.value, 3), round(line.r.value, 3)
    (0.5, 0.15, 0.997)
    """
    x, y = as_vector(gaps, "gaps"), as_vector(accuracies, "accuracies")
    if len(x) != len(y) or len(x) < FEWEST:
        raise ValueError(
            f"fit_line needs gap and accuracy of at least {FEWEST} models, got {len(x)} and {len(y)}. "
            "Train more models."
        )
    squares = float(np.sum((x - x.mean()) ** 2))
    if not squares > 0.0:
        raise ValueError("fit_line needs models with different gaps, got the same of all. Vary the training.")
    intercept, slope, r = (float(found[0]) for found in _least_squares(x[None], y[None]))
    residual_sd = math.sqrt(float(np.sum((y - intercept - slope * x) ** 2)) / (len(x) - 2))
    t = t_quantile(level, len(x) - 2) * residual_sd
    drawn = (None, None, None) if resampled is None else _least_squares(*resampled)
    method = "least squares, t over models"
    if resampled is not None:
        method += " and bootstrap of participants, added in quadrature"
    said = method.replace("least squares, t", "Pearson, Fisher's z")
    return Line(
        Estimate(
            intercept,
            *_ends(intercept, t * math.sqrt(1.0 / len(x) + x.mean() ** 2 / squares), drawn[0], level),
            level,
            method,
        ),
        Estimate(slope, *_ends(slope, t / math.sqrt(squares), drawn[1], level), level, method),
        _correlation(r, len(x), drawn[2], level, said),
        len(x),
        residual_sd,
        float(x.mean()),
        squares,
        None if drawn[0] is None or drawn[1] is None else np.stack([drawn[0], drawn[1]], axis=1),
    )


def fisher_interval(r: float, size: int, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of a correlation over ``size`` pairs: tanh(atanh r ± z / √(size - 3)).

    References:
        Fisher 1921.

    >>> [round(end, 3) for end in fisher_interval(0.98, 26)]
    [0.955, 0.991]
    """
    if size <= 3 or math.isnan(r):
        return -1.0, 1.0
    if abs(r) >= 1.0:
        return r, r
    reach = t_quantile(level, math.inf) / math.sqrt(size - 3)
    return math.tanh(math.atanh(r) - reach), math.tanh(math.atanh(r) + reach)


def _least_squares(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return intercept, slope and correlation of every row; a correlation with a constant is NaN."""
    dx, dy = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    products, squares = (dx * dy).sum(axis=1), (dx**2).sum(axis=1)
    slope = products / squares
    scale = np.sqrt(squares * (dy**2).sum(axis=1))
    r = np.divide(products, scale, out=np.full_like(scale, np.nan), where=scale > 0.0)
    return y.mean(axis=1) - slope * x.mean(axis=1), slope, np.clip(r, -1.0, 1.0)


def _ends(value: float, reach: float, drawn: FloatArray | None, level: float) -> tuple[float, float]:
    """Return the ends of ``value`` ± ``reach``, each further by what the draws reach from their median."""
    if drawn is None:
        return value - reach, value + reach
    low, high = (float(end) for end in percentile_ends(drawn, level))
    middle = float(np.nanmedian(drawn))
    return value - math.hypot(reach, middle - low), value + math.hypot(reach, high - middle)


def _correlation(r: float, size: int, drawn: FloatArray | None, level: float, method: str) -> Estimate:
    if math.isnan(r):
        return Estimate(None, None, None, level, reason="all models have the same accuracy")
    own = fisher_interval(r, size, level)
    if drawn is None or size <= FEWEST:
        return Estimate(r, *own, level, method)
    reach = t_quantile(level, math.inf) / math.sqrt(size - 3)
    inside = np.clip([r, *drawn], -_NEARLY_ONE, _NEARLY_ONE)
    z = np.arctanh(inside)
    low, high = _ends(float(z[0]), reach, z[1:], level)
    return Estimate(r, min(math.tanh(low), r), max(math.tanh(high), r), level, method)
