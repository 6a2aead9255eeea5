"""Feature scaling learnt on the leaked scans alone.

The paper does not say how features are scaled. Each feature is centred and divided by its standard deviation
over the leaked scans, z = (v − mean) / sd, and clipped at ±10 because gradients have heavy tails. Features
whose standard deviation is below 10⁻⁶ of the largest are rounding noise around zero (the bias of a
convolution before an InstanceNorm has no gradient); scaling would blow them up, so they are dropped.
"""

from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import numpy.typing as npt

from privoxel.arrays import BoolArray, Float32Array, FloatArray

RELATIVE_FLOOR = 1e-6
CLIP = 10.0


@final
@dataclass(frozen=True)
class Standardiser:
    """Mean, standard deviation and use of every feature; all arrays have the shape of one value."""

    mean: FloatArray = field(repr=False)
    sd: FloatArray = field(repr=False)
    kept: BoolArray = field(repr=False)

    @property
    def dropped(self) -> int:
        """How many features do not vary over the leaked scans."""
        return int((~self.kept).sum())

    def maps(self, values: npt.NDArray[Any]) -> Float32Array:
        """Return standardised values in their own shape, scans × value axes; dropped features are 0."""
        scale = np.where(self.kept, 1.0 / np.where(self.kept, self.sd, 1.0), 0.0)
        out = (values.astype(np.float64) - self.mean) * scale
        return np.clip(out, -CLIP, CLIP).astype(np.float32)

    def vectors(self, values: npt.NDArray[Any]) -> Float32Array:
        """Return standardised values without the dropped features: scans × features.

        If no feature varies there is one column of zeros, so that a classifier says nothing about anyone.
        """
        flat = self.maps(values).reshape(len(values), -1)
        return flat[:, self.kept.reshape(-1)] if self.kept.any() else flat[:, :1]

    def notes(self, signal: str) -> tuple[str, ...]:
        """Return what was dropped from ``signal``, for the report; empty if nothing was."""
        return (f"{signal}: {self.dropped} structural zeros dropped",) if self.dropped else ()


def fit_standardiser(leaked: npt.NDArray[Any]) -> Standardiser:
    """Return the scaling of the features of the leaked scans (scans × value axes).

    >>> scaling = fit_standardiser(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> scaling.vectors(np.array([[5.0, 5.0]])).tolist(), scaling.dropped
    ([[3.0]], 1)

    Raises:
        ValueError: if there are no scans, or a value is not finite.
    """
    if len(leaked) == 0:
        raise ValueError("fit_standardiser needs at least one scan, got none.")
    mean = leaked.mean(axis=0, dtype=np.float64)
    sd = leaked.std(axis=0, dtype=np.float64)
    if not (np.isfinite(mean).all() and np.isfinite(sd).all()):
        raise ValueError("fit_standardiser needs finite values, got some that are not.")
    kept = (sd > 0) & (sd >= RELATIVE_FLOOR * sd.max(initial=0.0))
    return Standardiser(np.asarray(mean), np.asarray(sd), np.asarray(kept))
