"""A curious server: a scan's gradient against the update that a learner sent.

An update Δ is the local model minus the community model it started from, so it points along minus the
gradient of the learner's own scans; D = −Δ is compared. Inputs are rounds × learners × scans of the inner
product <g, Δ> (the signal ``product:NAME``), rounds × scans of ‖g‖ and rounds × learners of ‖Δ‖.
"""

import numpy as np

from privoxel.arrays import FloatArray

_TINY = 1e-30


def update_cosine(products: FloatArray, gradient_norms: FloatArray, update_norms: FloatArray) -> FloatArray:
    """Return cos(g, −Δ), rounds × learners × scans; 0 where a norm is 0. Higher = more likely a member.

    References:
        Li et al. 2023 (ICLR), cosine attack.
    """
    norms = gradient_norms[:, None, :] * update_norms[:, :, None]
    return np.asarray(np.where(norms > _TINY, -products / np.maximum(norms, _TINY), 0.0))


def gradient_difference(products: FloatArray, gradient_norms: FloatArray) -> FloatArray:
    """Return ‖D‖² − ‖D − g‖² = −2 <g, Δ> − ‖g‖², rounds × learners × scans. Higher = more likely a member.

    References:
        Li et al. 2023 (ICLR), Grad-diff attack.
    """
    return np.asarray(-2.0 * products - gradient_norms[:, None, :] ** 2)
