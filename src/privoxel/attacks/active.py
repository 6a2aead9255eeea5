"""The active learner's score: which scans stay well predicted although it pushes their loss up.

Nasr et al. 2019, active attack: a learner that trains on a pushed scan pulls its loss down again in its next
update; the loss of a scan that nobody trains on stays up.
"""

import numpy as np

from privoxel.arrays import FloatArray


def pulled_back(errors: FloatArray) -> FloatArray:
    """Return minus the mean squared error (years²) of each scan over the pushed rounds: higher = member.

    ``errors`` are rounds × scans, the signed or absolute error (years) of each community model that follows a
    push.
    """
    return np.asarray(-np.square(errors).mean(axis=0))
