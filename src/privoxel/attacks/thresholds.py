"""The threshold an attack calls members by, set on scores of known membership."""

import numpy as np
from numpy.typing import ArrayLike

from privoxel.arrays import FloatArray, as_mask, as_vector

MEDIAN_THRESHOLD = "threshold=median of the evaluated scans"
"""What an attack notes that knows nobody's membership."""


def best_threshold(scores: ArrayLike, members: ArrayLike) -> float:
    """Return the threshold with the best balanced accuracy; a score above it is called a member.

    It lies midway between two neighbouring scores, or calls everyone the same where nothing better than
    guessing is possible. Of several equally good ones it is that which splits the scores most evenly, the
    lower one if two do. Give out-of-fold scores of the leaked scans only: on the scores to be judged the
    result would be optimistic.

    >>> best_threshold([0.0, 1.0, 3.0, 4.0], [False, False, True, True])
    2.0

    Raises:
        ValueError: if scores are not finite, or there is no member or no non-member.
    """
    values = as_vector(scores, "scores")
    is_member = as_mask(members, "members", len(values))
    if is_member.all() or not is_member.any():
        raise ValueError(
            f"best_threshold needs members and non-members, got {int(is_member.sum())} and "
            f"{int((~is_member).sum())}."
        )
    order = np.argsort(values, kind="stable")
    ordered, inside = values[order], is_member[order]
    # Cutting after the first k scores calls k of them non-members.
    cuts = np.concatenate([[0], np.flatnonzero(ordered[1:] > ordered[:-1]) + 1, [len(ordered)]])
    missed = np.concatenate([[0], np.cumsum(inside)])[cuts]
    gain = (cuts - missed) * int(inside.sum()) - missed * int((~inside).sum())
    best = cuts[gain == gain.max()]
    return _between(ordered, int(best[np.argmin(np.abs(2 * best - len(ordered)))]))


def _between(ordered: FloatArray, cut: int) -> float:
    """Return a value with exactly the first ``cut`` of the scores at or below it."""
    if cut == 0:
        return float(np.nextafter(ordered[0], -np.inf))
    if cut == len(ordered):
        return float(ordered[-1])
    below, above = float(ordered[cut - 1]), float(ordered[cut])
    middle = below / 2.0 + above / 2.0
    return middle if below <= middle < above else below
