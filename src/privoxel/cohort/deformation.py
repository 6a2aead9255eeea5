"""Smooth random fields on a fixed lattice in world millimetres, and the shape they give one participant.

Fields are cubic B-splines whose knots lie at fixed world positions, 64, 32, 16 and 8 mm apart: a participant
is the same person at every resolution. The coefficients of a coarse level are carried to the next finer one
by the two-scale relation d(2j) = (c(j−1) + 6 c(j) + c(j+1)) / 8, d(2j+1) = (c(j) + c(j+1)) / 2, which is
exact, so that only the finest level is ever evaluated. The products are sparse (four weights a point and
axis), run on one thread, and so give the same bytes on any number of them.
"""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import sparse

from privoxel.arrays import Float32Array
from privoxel.cohort.anatomy import FIELD_LATTICE

KNOTS_MM = (64.0, 32.0, 16.0, 8.0)
# Mean over x of the sum of squared weights of a cubic B-spline is 151/315 an axis: the variance that unit
# coefficients give.
_UNIT_SD = (151 / 315) ** 1.5


class _Level(NamedTuple):
    knots: tuple[int, int, int]
    to_finer: tuple[sparse.csr_array, ...]


def bspline_weights(positions: Float32Array, knots: int) -> sparse.csr_array:
    """Return the cubic B-spline weights of ``knots`` coefficients at ``positions`` (knot units): sparse.

    Coefficient j is centred on position j − 1, so that positions 0 to ``knots`` − 3 have all four weights.
    """
    first = np.clip(np.floor(positions), 0, knots - 4).astype(np.int64)
    columns = first[:, None] + np.arange(4)
    away = np.abs(positions.astype(np.float64)[:, None] - (columns - 1))
    near = 2 / 3 - away**2 + away**3 / 2
    weights = np.where(away < 1, near, np.where(away < 2, (2 - away) ** 3 / 6, 0)).astype(np.float32)
    starts = np.arange(0, columns.size + 1, 4)
    return sparse.csr_array((weights.ravel(), columns.ravel(), starts), shape=(len(positions), knots))


def refinement(coarse: int, fine: int) -> sparse.csr_array:
    """Return the matrix (fine, coarse) of the two-scale relation; both count knots as above."""
    rows, columns, weights = [], [], []
    for j in range(coarse):
        for shift, weight in ((-2, 1 / 8), (-1, 1 / 2), (0, 6 / 8), (1, 1 / 2), (2, 1 / 8)):
            row = 2 * (j - 1) + shift + 1
            if 0 <= row < fine:
                rows.append(row)
                columns.append(j)
                weights.append(weight)
    return sparse.csr_array((np.array(weights, dtype=np.float32), (rows, columns)), shape=(fine, coarse))


def along_axes(matrices: tuple[sparse.csr_array, ...], array: Float32Array) -> Float32Array:
    """Return ``array`` (channels, x, y, z) with one matrix applied to each of its three spatial axes."""
    for axis in (1, 2, 3):
        moved = np.moveaxis(array, axis, 0)
        product = matrices[axis - 1] @ np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
        array = np.moveaxis(product.reshape(-1, *moved.shape[1:]), 0, axis)
    return np.ascontiguousarray(array)


def _knots(knot_mm: float) -> tuple[int, int, int]:
    x, y, z = (int(np.ceil(FIELD_LATTICE.spacing_mm * (n - 1) / knot_mm)) + 3 for n in FIELD_LATTICE.shape)
    return x, y, z


@lru_cache(maxsize=1)
def _levels() -> tuple[_Level, ...]:
    counts = [_knots(mm) for mm in KNOTS_MM]
    finer = [tuple(refinement(c, f) for c, f in zip(*pair, strict=True)) for pair in pairwise(counts)]
    step = np.float32(FIELD_LATTICE.spacing_mm / KNOTS_MM[-1])
    positions = [step * np.arange(n, dtype=np.float32) for n in FIELD_LATTICE.shape]
    onto_lattice = tuple(bspline_weights(p, n) for p, n in zip(positions, counts[-1], strict=True))
    return tuple(_Level(n, f) for n, f in zip(counts, [*finer, onto_lattice], strict=True))


def random_fields(rng: np.random.Generator, spreads: Float32Array) -> Float32Array:
    """Return independent smooth fields on ``FIELD_LATTICE``: (channels, x, y, z), float32.

    ``spreads`` (levels, channels) is the SD of each channel at each of ``KNOTS_MM``. Values depend on
    the generator and the number of channels alone, never on a resolution.
    """
    levels = _levels()
    total = np.zeros((spreads.shape[1], *levels[0].knots), dtype=np.float32)
    for level, spread in zip(levels, spreads, strict=True):
        scale = (spread / _UNIT_SD).astype(np.float32).reshape(-1, 1, 1, 1)
        total += rng.standard_normal(total.shape, dtype=np.float32) * scale
        total = along_axes(level.to_finer, total)
    return total
