"""From an attack's scores over repeats to one membership probability a participant.

Attackers of different repeats score on scales of their own, so each repeat is calibrated alone and the
log-odds are averaged. In an audit's repeat nobody evaluated was leaked to the attacker, and the calibration
is cross-fitted, so that a participant's own membership enters its probability nowhere.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.evaluation.intervals import cluster_codes
from privoxel.evaluation.risk import ReliabilityPoint, membership_posterior, reliability
from privoxel.evaluation.scored import Evaluated

FOLDS = 5
"""Folds of the calibration; every evaluated class must hold as many participants."""

_CERTAIN = 1e-9


class Posterior(NamedTuple):
    """Membership probabilities at even prior odds, one a participant, in the order of their codes.

    ``participants``: codes, rising. ``probability``: 0-1, NaN for those whom no repeat evaluated.
    """

    participants: IntArray
    members: BoolArray
    probability: FloatArray


def participant_posterior(evaluated: Evaluated, rng: np.random.Generator, *, folds: int = FOLDS) -> Posterior:
    """Return every participant's probability of being a member, at even prior odds.

    Within a repeat the scores of a participant's scans are averaged and calibrated by
    ``membership_posterior``; over repeats the log-odds are averaged.

    Raises:
        ValueError: if a participant is both member and non-member, or a repeat evaluates fewer than ``folds``
            participants of a class.
    """
    people, codes = np.unique(evaluated.participants), cluster_codes(evaluated)
    scans = np.bincount(codes)
    inside = np.bincount(codes, weights=evaluated.members)
    mixed = int(((inside > 0) & (inside < scans)).sum())
    if mixed:
        raise ValueError(
            f"participant_posterior needs one membership a participant, got {mixed} with two. Split by "
            "participant."
        )
    members = inside > 0
    total, times = np.zeros(len(people)), np.zeros(len(people))
    for scores in evaluated.scores:
        seen = ~np.isnan(scores)
        counts = np.bincount(codes[seen], minlength=len(people))
        rows = np.flatnonzero(counts)
        means = np.bincount(codes[seen], weights=scores[seen], minlength=len(people))[rows] / counts[rows]
        stated = membership_posterior(means, members[rows], rng, folds=folds)
        total[rows] += special.logit(np.clip(stated, _CERTAIN, 1.0 - _CERTAIN))
        times[rows] += 1.0
    log_odds = np.divide(total, times, out=np.full(len(people), np.nan), where=times > 0.0)
    return Posterior(people.astype(np.int64), members, np.asarray(special.expit(log_odds), dtype=np.float64))


def posterior_reliability(
    posteriors: tuple[Posterior, ...], *, smallest: int, level: float = 0.95
) -> tuple[ReliabilityPoint, ...]:
    """Return the reliability diagram of one or several targets, in up to ten bins of equal size.

    Each target's probabilities are moved to its own share of members first. No bin holds fewer than
    ``smallest`` participants; none are returned where there are fewer in all.
    """
    stated, members = [], []
    for one in posteriors:
        known = ~np.isnan(one.probability)
        share = float(one.members[known].mean())
        stated.append(at_prevalence(one.probability[known], share))
        members.append(one.members[known])
    everyone = np.concatenate(stated)
    bins = min(10, len(everyone) // smallest)
    if not bins:
        return ()
    return reliability(everyone, np.concatenate(members), bins=bins, level=level)


def at_prevalence(probability: FloatArray, prevalence: float) -> FloatArray:
    """Return probabilities stated at even prior odds as those at a ``prevalence`` (0-1) of members.

    >>> at_prevalence(np.array([0.5, 0.9]), 0.1).round(3).tolist()
    [0.1, 0.5]

    References:
        Elkan 2001, section 2 (change of the prior).
    """
    return np.asarray(special.expit(special.logit(probability) + special.logit(prevalence)), dtype=np.float64)
