"""How far the largest of many deviations goes: Gaussian multipliers of what participants contribute.

Several means over the same participants (attacks, settings, or both) each deviate by a sum of contributions.
Multiplying each participant's by one standard normal, for all means at once, draws all deviations together:
means that move together count as few, and near copies of one nearly as that one.

References:
    Chernozhukov et al. 2013, section 2; Westfall and Young 1993, section 2.3 (the largest of standardised).
"""

import math

import numpy as np

from privoxel.arrays import FloatArray

FEWEST = 999
BEYOND = 50
"""How many draws a quantile needs beyond it: its own chance is then uncertain by a seventh."""
BLOCK = 32
"""Draws over all participants that are in memory at once."""
FLOOR = 1e-9


def largest_deviation(
    contributions: FloatArray, freedom: float, rng: np.random.Generator, level: float
) -> float:
    """Return the ``level`` quantile of the largest absolute deviation over all rows, in standard errors.

    Args:
        contributions: what each participant adds to each mean beyond it: means × participants. The root of a
            row's sum of squares is its standard error.
        freedom: degrees of freedom behind the standard errors (Student's t for few participants).
        rng: of the multipliers.
        level: with which all means lie within the returned number of standard errors at once.
    """
    scaled = contributions / standard_errors(contributions)[:, None]
    draws = draws_at(level)
    largest = [
        np.abs(rng.normal(size=(min(BLOCK, draws - start), scaled.shape[1])) @ scaled.T).max(axis=1)
        for start in range(0, draws, BLOCK)
    ]
    student = np.concatenate(largest) / np.sqrt(rng.chisquare(freedom, draws) / freedom)
    return float(np.quantile(student, level))


def draws_at(level: float) -> int:
    """Return how many draws the quantile at ``level`` needs: 999, more if fewer than 50 would lie beyond it.

    >>> draws_at(0.95), draws_at(0.998)
    (999, 24999)
    """
    return max(FEWEST, math.ceil(round(BEYOND / (1.0 - level), 6)) - 1)


def standard_errors(contributions: FloatArray) -> FloatArray:
    """Return each row's standard error, never zero."""
    return np.maximum(np.sqrt((contributions**2).sum(axis=1)), FLOOR)


def said_among(attacks: int, settings: int) -> str:
    """Return among what was chosen, in words.

    >>> said_among(3, 1), said_among(3, 20)
    ('3 attacks', '3 attacks of 20 settings')
    """
    return f"{attacks} attacks" + (f" of {settings} settings" if settings > 1 else "")
