"""Centring: the error relative to what this model gives its own members, at their age.

Members lie around a model-specific offset, not around zero: a network that is a year off for everybody is
a year off for its members too. The centre is the median error of the leaked members and, if asked, a smooth
curve of age on top of it. Pure functions; a leaked scan's centre never comes from its own fold.

The curve is a ridge fit of the members' centred errors to z and z² − 1, with z the age standardised on
the members and held within their range. Its penalty counts as ``PRIOR`` scans without any trend, so that a
few members move the centre little.
"""

from typing import NamedTuple

import numpy as np

from privoxel.arrays import BoolArray, FloatArray, IntArray

PRIOR = 10.0


class AgeScale(NamedTuple):
    """Standardisation of age (years), and the range within which a curve was seen."""

    mean: float
    sd: float
    low: float
    high: float

    def __call__(self, ages: FloatArray) -> FloatArray:
        """Return standardised ages, those outside the range moved to its ends."""
        return np.asarray((np.clip(ages, self.low, self.high) - self.mean) / self.sd)


class Centre(NamedTuple):
    """Offset (years) and the coefficients of z and z² − 1 (years)."""

    offset: float
    slope: float
    bend: float
    scale: AgeScale

    def __call__(self, ages: FloatArray) -> FloatArray:
        """Return the centre at each age (years)."""
        z = self.scale(ages)
        return np.asarray(self.offset + self.slope * z + self.bend * (z**2 - 1.0))


def age_scale(ages: FloatArray) -> AgeScale:
    """Return the standardisation of ``ages``."""
    return AgeScale(float(ages.mean()), float(ages.std()) or 1.0, float(ages.min()), float(ages.max()))


def age_basis(z: FloatArray) -> FloatArray:
    """Return z and z² − 1 of standardised ages: scans × 2."""
    return np.column_stack([z, z**2 - 1.0])


def fit_centre(
    errors: FloatArray, ages: FloatArray, members: BoolArray | None = None, *, curve: bool = False
) -> Centre:
    """Return the centre of the errors (years) of the leaked members; of all scans if ``members`` is None.

    >>> fit_centre(np.array([1.0, 2.0, 6.0]), np.array([50.0, 60.0, 70.0])).offset
    2.0
    """
    if members is not None:
        errors, ages = errors[members], ages[members]
    scale, offset = age_scale(ages), float(np.median(errors))
    if not curve:
        return Centre(offset, 0.0, 0.0, scale)
    basis = age_basis(scale(ages))
    slope, bend = np.linalg.solve(basis.T @ basis + PRIOR * np.eye(2), basis.T @ (errors - offset))
    return Centre(offset, float(slope), float(bend), scale)


def centred(
    errors: FloatArray, ages: FloatArray, members: BoolArray, folds: IntArray, *, curve: bool = False
) -> FloatArray:
    """Return the errors (years) of leaked scans minus a centre fitted without the scan's own fold."""
    result = np.empty(len(errors))
    for fold in np.unique(folds):
        inside = folds == fold
        centre = fit_centre(errors[~inside], ages[~inside], members[~inside], curve=curve)
        result[inside] = errors[inside] - centre(ages[inside])
    return result
