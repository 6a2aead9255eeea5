"""FedMIA: the other learners as references that do not hold the scan (CVPR 2025).

For learner c the statistic s of a scan is compared with that of the other learners in the same round:
mean over rounds of Φ((s_c − mean of the others) / σ). Published, σ is the spread over the other learners of
that scan; pooled over the scans it is steadier, since a federation has few learners. It fails where all
learners hold the scan, and where learners differ in distribution the others are no fair reference.
"""

import numpy as np
from scipy import special

from privoxel.arrays import FloatArray

_TINY = 1e-12


def fedmia(statistic: FloatArray, *, pooled: bool = True) -> FloatArray:
    """Return learners × scans in 0-1: higher = more likely trained on by that learner.

    Args:
        statistic: rounds × learners × scans, higher = more likely a member (such as ``update_cosine``).
        pooled: one σ per round and learner, the root mean variance over scans; else the published σ, of
            each scan.

    Raises:
        ValueError: if there are fewer than three learners: two others are needed for a spread.
    """
    learners = statistic.shape[1]
    if learners < 3:
        raise ValueError(f"fedmia needs at least 3 learners, got {learners}. Compare the updates instead.")
    placed = np.empty_like(statistic, dtype=np.float64)
    for c in range(learners):
        others = np.delete(statistic, c, axis=1)
        variance = others.var(axis=1, ddof=1)
        if pooled:
            variance = np.broadcast_to(variance.mean(axis=1, keepdims=True), variance.shape)
        sigma = np.maximum(np.sqrt(variance), _TINY)
        placed[:, c] = special.ndtr((statistic[:, c] - others.mean(axis=1)) / sigma)
    return np.asarray(placed.mean(axis=0))
