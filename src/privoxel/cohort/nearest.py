"""The nearest value that has not been taken yet, found in almost constant time.

Values are sorted once. Each place remembers the next free place to its left and to its right; looking one up
shortens the way for those that come after (union-find with path compression: Tarjan 1975).
"""

from typing import final

import numpy as np
import numpy.typing as npt

from privoxel.arrays import IntArray, as_vector


@final
class NearestRemaining:
    """Values of which each can be taken once, the nearest to a target first.

    Of two that are equally near, the lower one is taken; among equal values the order is arbitrary but fixed.
    """

    def __init__(self, values: npt.ArrayLike) -> None:
        vector = as_vector(values, "values")
        self._order = np.argsort(vector, kind="stable")
        self._sorted = vector[self._order]
        places = vector.size
        # One more place at either end stands for "none": 0 on the left, places + 1 on the right.
        self._left = list(range(places + 2))
        self._right = list(range(places + 2))
        self._free = np.ones(places, dtype=np.bool_)

    def __len__(self) -> int:
        return int(self._free.sum())

    def take(self, target: float) -> int:
        """Return the index of the free value nearest to ``target`` and take it.

        Raises:
            LookupError: if none is left.
        """
        found = self.take_within(target, np.inf)
        if found is None:
            raise LookupError("NearestRemaining needs a value that is left, got none. Take fewer.")
        return found

    def take_within(self, target: float, reach: float) -> int | None:
        """Return the index of the free value nearest to ``target`` and take it, if it is within ``reach``."""
        place = self._nearest(target)
        if place is None or self._distance(place, target) > reach:
            return None
        self._free[place - 1] = False
        self._left[place] = place - 1
        self._right[place] = place + 1
        return int(self._order[place - 1])

    def remaining(self) -> IntArray:
        """Return the indices of the values that nobody has taken, in ascending order."""
        return np.sort(self._order[self._free])

    def _nearest(self, target: float) -> int | None:
        after = int(np.searchsorted(self._sorted, target)) + 1
        right = _root(self._right, after)
        left = _root(self._left, after - 1)
        last = self._sorted.size
        if left == 0:
            return right if right <= last else None
        if right > last or self._distance(left, target) <= self._distance(right, target):
            return left
        return right

    def _distance(self, place: int, target: float) -> float:
        return abs(float(self._sorted[place - 1]) - target)


def _root(links: list[int], place: int) -> int:
    root = place
    while links[root] != root:
        root = links[root]
    while links[place] != root:
        links[place], place = root, links[place]
    return root
