"""The loss or gradient norm of a scan over the rounds: members are fitted more as training goes on.

Series are rounds × scans, oldest first. Every statistic is higher for likelier members. They fail where
the scans are as well fitted as unseen ones in every round, and where a scan is simply hard from the start.
"""

import numpy as np

from privoxel.arrays import FloatArray


def fall(series: FloatArray) -> FloatArray:
    """Return the first round's value minus the last's: what training took off."""
    return np.asarray(series[0] - series[-1])


def interquartile_range(series: FloatArray) -> FloatArray:
    """Return the interquartile range of each scan's series.

    References:
        LT-IQR, arXiv 2411.05743.
    """
    low, high = np.quantile(series, [0.25, 0.75], axis=0)
    return np.asarray(high - low)
