"""Metrics when every scan counts a given number of times: the statistics that resampling needs.

Each function maps weights (draws × scans) to the mean over repeats of the metric within the repeat, one value
per draw. Weights of one give the plain metric. A repeat in which a draw holds no member or no non-member is
left out of that draw's mean.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from privoxel.arrays import FloatArray
from privoxel.evaluation.scored import Evaluated

IndexArray = npt.NDArray[np.intp]
_Order = tuple[tuple[IndexArray, IndexArray], FloatArray]
ROUNDING = 1e-6
SLACK, LEAST = 1.25, 200
"""How far beyond a false-positive rate the highest scores are taken, as a factor and in scans."""


class _Descent(NamedTuple):
    """One repeat from the highest score down, by class.

    ``members``, ``non_members``: scores, descending. ``member_weight``, ``non_member_weight``: weight of the
    first k of them, k from 0 on: draws × (scans + 1). ``totals``: weight of all members and of all
    non-members, draws each; scores and weights may leave out the lowest.
    """

    members: FloatArray
    non_members: FloatArray
    member_weight: FloatArray
    non_member_weight: FloatArray
    totals: tuple[FloatArray, FloatArray]


def weighted_auc(evaluated: Evaluated, weights: FloatArray) -> FloatArray:
    """Return the mean AUC of each draw, ties counting one half."""
    return _mean_over_repeats([_area(descent) for descent in _descents(evaluated, weights)])


def weighted_balanced_accuracy(evaluated: Evaluated, weights: FloatArray) -> FloatArray:
    """Return the mean balanced accuracy of each draw at the repeats' own thresholds."""
    return (weighted_hits(evaluated, weights, True) + weighted_hits(evaluated, weights, False)) / 2.0


def weighted_hits(evaluated: Evaluated, weights: FloatArray, of_members: bool) -> FloatArray:
    """Return the mean share of members (or of non-members) that are called what they are."""
    group = evaluated.members if of_members else ~evaluated.members
    seen = ~np.isnan(evaluated.scores) & group
    called = evaluated.scores > evaluated.thresholds[:, None]
    right = seen & (called == evaluated.members)
    shares = _shares(weights @ right.T.astype(np.float64), weights @ seen.T.astype(np.float64))
    return _mean_over_repeats(list(shares.T))


def weighted_tpr(evaluated: Evaluated, weights: FloatArray, fprs: FloatArray) -> FloatArray:
    """Return the mean true-positive rate of each draw at each false-positive rate: draws × rates.

    The threshold is the lowest at which the false-positive rate does not exceed the stated one; scores that
    tie are called together and nothing is interpolated.
    """
    return tpr_statistic(evaluated, fprs)(evaluated, weights)


def tpr_statistic(ranked: Evaluated, fprs: FloatArray) -> Callable[[Evaluated, FloatArray], FloatArray]:
    """Return ``weighted_tpr`` at ``fprs`` as a statistic that sorts the scores of ``ranked`` only once."""
    most = float(np.max(fprs))
    known = list(_orders(ranked))

    def statistic(evaluated: Evaluated, weights: FloatArray) -> FloatArray:
        orders = known if evaluated is ranked else _orders(evaluated)
        return _mean_over_repeats([_tpr(descent, fprs) for descent in _tops(orders, weights, most)])

    return statistic


def _descents(evaluated: Evaluated, weights: FloatArray) -> Iterator[_Descent]:
    for orders, scores in _orders(evaluated):
        running = [_running(weights, order) for order in orders]
        totals = (running[0][:, -1], running[1][:, -1])
        yield _Descent(scores[orders[0]], scores[orders[1]], running[0], running[1], totals)


def _tops(orders: Iterable[_Order], weights: FloatArray, fpr: float) -> Iterator[_Descent]:
    """Yield the descents down to where every draw has passed the false-positive rate ``fpr``.

    Of many scans a small rate needs only the highest; the rest is left out where no draw reaches it.
    """
    for (members, others), scores in orders:
        cut = min(int(len(others) * fpr * SLACK) + LEAST, len(others))
        totals = (_total(weights, members), _total(weights, others))
        passed = _running(weights, others[:cut])
        if cut < len(others) and not np.all(passed[:, -1] > totals[1] * fpr + ROUNDING):
            cut = len(others)
            passed = _running(weights, others)
        lowest = scores[others[cut - 1]] if cut < len(others) else -np.inf
        above = members[: int(np.searchsorted(-scores[members], -lowest, "right"))]
        yield _Descent(scores[above], scores[others[:cut]], _running(weights, above), passed, totals)


def _orders(evaluated: Evaluated) -> Iterator[_Order]:
    """Yield the rows of members and of non-members from the highest score down, and the scores, by repeat."""
    for scores in evaluated.scores:
        seen = ~np.isnan(scores)
        orders = []
        for group in (evaluated.members, ~evaluated.members):
            rows = np.flatnonzero(seen & group)
            orders.append(rows[np.argsort(-scores[rows], kind="stable")])
        yield (orders[0], orders[1]), scores


def _total(weights: FloatArray, rows: IndexArray) -> FloatArray:
    chosen = np.zeros(weights.shape[1])
    chosen[rows] = 1.0
    return np.asarray(weights @ chosen)


def _running(weights: FloatArray, order: IndexArray) -> FloatArray:
    total = np.zeros((len(weights), len(order) + 1))
    np.cumsum(np.take(weights, order, axis=1), axis=1, out=total[:, 1:])
    return total


def _area(descent: _Descent) -> FloatArray:
    """Return each draw's weighted share of member/non-member pairs in the right order, ties one half."""
    passed = sum(
        descent.non_member_weight[:, np.searchsorted(-descent.non_members, -descent.members, side)]
        for side in ("left", "right")
    )
    all_others = descent.non_member_weight[:, -1:]
    below = np.diff(descent.member_weight, axis=1) * (all_others - passed / 2.0)
    return _shares(below.sum(axis=1), descent.member_weight[:, -1] * all_others[:, 0])


def _tpr(descent: _Descent, fprs: FloatArray) -> FloatArray:
    others = descent.non_member_weight
    # Weights are whole numbers: the margin only absorbs the rounding of rate × count.
    limits = descent.totals[1][:, None] * fprs + ROUNDING
    taken = [np.searchsorted(row, limit, "right") - 1 for row, limit in zip(others, limits, strict=True)]
    # The threshold lies at the first non-member that is one too many; members that tie with it stay out.
    above = np.append(np.searchsorted(-descent.members, -descent.non_members, "left"), len(descent.members))
    hits = np.take_along_axis(descent.member_weight, above[np.stack(taken)], axis=1)
    members, non_members = (total[:, None] for total in descent.totals)
    possible = (members > 0.0) & (non_members > 0.0)
    return _shares(hits, np.where(possible, members, 0.0) * np.ones_like(hits))


def _shares(parts: FloatArray, wholes: FloatArray) -> FloatArray:
    """Return parts / wholes, NaN where the whole is zero."""
    return np.divide(parts, wholes, out=np.full(np.shape(parts), np.nan), where=wholes > 0.0)


def _mean_over_repeats(per_repeat: list[FloatArray]) -> FloatArray:
    stacked = np.stack(per_repeat)
    present = ~np.isnan(stacked)
    return _shares(np.where(present, stacked, 0.0).sum(axis=0), present.sum(axis=0).astype(np.float64))
