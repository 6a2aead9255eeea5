"""How much of a leak survives when the adversary holds another scan of the person than the one trained on.

The model was trained on the members' first session. The same attack is run once with those scans and once
with second-session scans of the same members, non-members scanned alike both times. What survives is
the share (AUC₂ - ½) / (AUC₁ - ½).
"""

from typing import NamedTuple

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.evaluation.intervals import auc_contributions, count_draws, percentile_ends
from privoxel.evaluation.metrics import auc
from privoxel.evaluation.reciprocity import widening
from privoxel.evaluation.scored import Estimate, Evaluated
from privoxel.evaluation.weighted import weighted_auc


class Survival(NamedTuple):
    """AUC with the trained-on scans, with other scans of the same people, and the share that survives."""

    trained_on: Estimate
    other_scan: Estimate
    share: Estimate


def surviving_share(
    trained_on: Evaluated,
    other_scan: Evaluated,
    rng: np.random.Generator,
    *,
    draws: int = 1000,
    level: float = 0.95,
) -> Survival:
    """Return the share of the leak that survives, with a paired participant bootstrap.

    Participants are resampled within members and non-members, the same ones for both sessions. A ratio has an
    interval only where its denominator is clear of zero (Fieller 1954): where the interval of the first AUC
    reaches ½ the share is None. It may lie below 0 or above 1.

    The interval is wider by what attackers share who judge each other's teachers (``reciprocity``).

    Raises:
        ValueError: if the two hold other participants or numbers of repeats, or one is both member and
            non-member.
    """
    people, first, second = _paired(trained_on, other_scan)
    estimates = auc(trained_on, level), auc(other_scan, level)
    low = estimates[0].low
    if low is None or low <= 0.5:
        reason = "with the trained-on scans no leak is shown, so there is nothing of which a share survives"
        return Survival(*estimates, Estimate(None, None, None, level, reason=reason))
    is_member = np.isin(people, trained_on.participants[trained_on.members])
    counts = np.zeros((draws, len(people)))
    for group in (np.flatnonzero(is_member), np.flatnonzero(~is_member)):
        counts[:, group] = count_draws(len(group), draws, rng)
    value = float(_share(trained_on, other_scan, np.ones((1, len(first))), np.ones((1, len(second))))[0])
    ends = percentile_ends(_share(trained_on, other_scan, counts[:, first], counts[:, second]), level)
    method = "paired participant bootstrap of a ratio"
    factor = share_widening(trained_on, other_scan, value)
    low_end, high_end = (value + factor * (float(end) - value) for end in ends)
    return Survival(*estimates, Estimate(value, min(low_end, value), max(high_end, value), level, method))


def restricted(evaluated: Evaluated, participants: IntArray) -> Evaluated:
    """Return ``evaluated`` on the scans of ``participants`` (codes) alone.

    Raises:
        ValueError: if a repeat then evaluates no member or no non-member.
    """
    kept = np.isin(evaluated.participants, participants)
    return Evaluated(
        evaluated.scores[:, kept], evaluated.thresholds, evaluated.members[kept], evaluated.participants[kept]
    )


def share_widening(trained_on: Evaluated, other_scan: Evaluated, share: float) -> float:
    """Return by what factor the interval of ``share`` grows since attackers judge each other's teachers.

    A participant moves the ratio b / a by (db - share da) / a, to first order.
    """
    first, second = auc_contributions(trained_on), auc_contributions(other_scan)
    return widening(second.parts - share * first.parts, first.seen, first.kinds)


def _share(trained_on: Evaluated, other_scan: Evaluated, first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the share of each draw, NaN where the first AUC is exactly one half."""
    above = weighted_auc(trained_on, first) - 0.5
    left = weighted_auc(other_scan, second) - 0.5
    return np.divide(left, above, out=np.full(above.shape, np.nan), where=above != 0.0)


def _paired(first: Evaluated, second: Evaluated) -> tuple[IntArray, IntArray, IntArray]:
    """Return the participants' codes and each scan's place among them, after checking that they agree."""
    members, others = (
        [np.unique(one.participants[one.members == inside]) for one in (first, second)]
        for inside in (True, False)
    )
    alike = np.array_equal(members[0], members[1]) and np.array_equal(others[0], others[1])
    if len(first.scores) != len(second.scores):
        raise ValueError(
            f"surviving_share needs as many repeats in both sessions, got {len(first.scores)} and "
            f"{len(second.scores)}. Attack both with the same draws."
        )
    if not alike or np.intersect1d(members[0], others[0]).size:
        raise ValueError(
            "surviving_share needs the same members and non-members in both sessions, got others. Keep the "
            "participants who have both scans."
        )
    people = np.unique(first.participants)
    places = [np.searchsorted(people, one.participants).astype(np.int64) for one in (first, second)]
    return people, places[0], places[1]
