"""How far members and non-members differ as people: standardised differences of age, sex and site.

Above 0.1 a difference is usually called notable (Austin 2009). It needs no test: what counts is
whether an attack could live on it, which the covariates-only control measures.
"""

import numpy as np
import numpy.typing as npt

from privoxel.arrays import BoolArray, FloatArray

NOTABLE = 0.1


def standardised_difference(values: FloatArray, members: BoolArray) -> float | None:
    """Return (mean of members − mean of others) / pooled SD; None where that is not defined.

    References:
        Austin 2009 (Statistics in Medicine 28:3083), equation for continuous variables.

    >>> standardised_difference(np.array([1.0, 3.0, 2.0, 4.0]), np.array([True, True, False, False]))
    -0.7071067811865475
    """
    inside, outside = values[members], values[~members]
    if min(len(inside), len(outside)) < 2:
        return None
    spread = (inside.var(ddof=1) + outside.var(ddof=1)) / 2.0
    difference = float(inside.mean() - outside.mean())
    if spread == 0.0:
        return 0.0 if difference == 0.0 else None
    return difference / float(np.sqrt(spread))


def categorical_difference(labels: npt.NDArray[np.str_], members: BoolArray) -> float | None:
    """Return the standardised distance between the shares of all labels in the two groups, at least 0.

    With two labels it is the absolute standardised difference of proportions. None where a group is empty, or
    where no label is shared and the distance has no bound.

    References:
        Yang and Dalton 2012 (SAS Global Forum, paper 335), the Mahalanobis distance of the shares.
    """
    known = np.unique(labels)
    if len(known) < 2:
        return 0.0
    if members.all() or not members.any():
        return None
    shares = [np.array([(labels[group] == label).mean() for label in known]) for group in (members, ~members)]
    covariances = [np.diag(share) - np.outer(share, share) for share in shares]
    pooled = sum(covariance[1:, 1:] for covariance in covariances) / 2.0
    gap = (shares[0] - shares[1])[1:]
    if np.linalg.matrix_rank(pooled) < len(gap):
        return None
    return float(np.sqrt(gap @ np.linalg.solve(pooled, gap)))
