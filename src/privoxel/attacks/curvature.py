"""Curvature of the loss at the output layer: what the influence-based attacks share.

For a squared error and a linear output the gradient of one scan is g = 2 r φ, with r the error (years)
and φ the embedding that enters the layer. The Hessian of the mean loss is 2 mean(φ φᵀ), equal to its
Gauss-Newton form, and φ = g / (2 r) comes from the same signal as g.

A scan's leverage is small where it helped to make the curvature and large for everyone else, so a curvature
made by leaked members would tell only who was leaked. It is made of a population, or of leaked non-members
of other folds.
"""

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import Attack, finite_signal
from privoxel.errors import SignalError
from privoxel.signals.table import GRADIENT, SignalTable

OUTPUT = f"{GRADIENT}output"
SMALLEST_ERROR = 0.1


def output_gradients(attack: Attack, table: SignalTable) -> FloatArray:
    """Return the gradient of every scan at the output layer (scans × weights, years²).

    Raises:
        SignalError: saying how many scans have values that are not finite.
    """
    return finite_signal(attack, table, OUTPUT).reshape(len(table), -1).astype(np.float64)


def gauss_newton(gradients: FloatArray, errors: FloatArray, *, damping: float) -> FloatArray:
    """Return 2 mean(φ φᵀ) of some scans plus ``damping`` times its mean diagonal on the diagonal.

    ``gradients`` is scans × weights (years²), ``errors`` are in years. Scans with |error| below 0.1 years are
    left out, since φ = g / (2 r) is rounding noise there.

    Raises:
        SignalError: if no scan is left.
    """
    usable = np.abs(errors) >= SMALLEST_ERROR
    if not usable.any():
        raise SignalError(
            f"The curvature needs non-members with |error| above {SMALLEST_ERROR} years, got "
            f"none among {len(errors)}. Give a larger population or leak more non-members."
        )
    embeddings = gradients[usable] / (2.0 * errors[usable, None])
    curvature = 2.0 * embeddings.T @ embeddings / int(usable.sum())
    scale = float(np.trace(curvature)) / len(curvature) or 1.0
    return np.asarray(curvature + damping * scale * np.eye(len(curvature)))
