"""Every learner against every other: accuracies of ordered pairs, and means whose intervals know the overlap.

The pairs of a federation share victims and unseen participants, so 56 pairs are not 56 tests. Every
interval resamples the participants of each learner and of the unseen set once per draw and recomputes all
pairs from them; attack and control are resampled together, so that their difference is paired.

Plain percentile intervals are too narrow for small groups, for two reasons: the spread over resamples is
(n - 1) / n of the variance, and it is read as if it were known exactly. So n - 1 participants are drawn
from a group of n, and the percentiles are those of Student's t instead of the normal.

References:
    Rao and Wu 1988, section 2 (resamples of n - 1); Hesterberg 2015, section 3.2 (expanded percentiles).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from scipy import special

from privoxel.arrays import FloatArray, IntArray
from privoxel.evaluation.intervals import percentile_ends, t_quantile, welch_freedom
from privoxel.evaluation.scored import Estimate

METHOD = "bootstrap over participants, shared by all pairs, with Student's t"
DRAWS = 1000
HALF = 0.5


@final
@dataclass(frozen=True)
class Groups:
    """Who is judged: rows of the scans of each victim and of the unseen participants it is compared with.

    ``participants`` holds a code for every scan of the cohort. ``non_members`` may differ between victims
    (age-matched sets); where they share participants these are resampled together.
    """

    members: tuple[IntArray, ...]
    non_members: tuple[IntArray, ...]
    participants: IntArray

    def weights(self, rng: np.random.Generator, draws: int) -> FloatArray:
        """Return how often each scan of the cohort is drawn: draws × scans; the first draw is 1 for all.

        Participants are drawn with replacement within each learner, and within the unseen ones: one fewer
        than the group has, so that the spread over draws is that of the data (Rao and Wu 1988).
        """
        drawn = np.zeros((draws + 1, len(self.participants)))
        unseen = np.unique(np.concatenate(self.non_members))
        for rows in (*self.members, unseen):
            codes, inverse = np.unique(self.participants[rows], return_inverse=True)
            size = len(codes)
            counts = rng.multinomial(max(size - 1, 1), np.full(size, 1 / size), size=draws)
            drawn[1:, rows] = counts[:, inverse]
        drawn[0] = 1.0
        return drawn

    def freedom(self, victims: Sequence[int]) -> float:
        """Return the degrees of freedom of a mean over ``victims``, by Satterthwaite's formula.

        Every participant is taken to have the same variance; one of several comparison sets counts with its
        mean share in them.
        """
        unseen = np.zeros(int(self.participants.max()) + 1)
        parts = []
        for victim in victims:
            own = len(np.unique(self.participants[self.members[victim]]))
            parts.append((1.0 / own / len(victims) ** 2, max(own - 1.0, 1.0)))
            others = np.unique(self.participants[self.non_members[victim]])
            unseen[others] += 1.0 / len(others) / len(victims)
        together = float(np.sum(unseen**2))
        return welch_freedom(*parts, (together, max(1.0 / together - 1.0, 1.0)))


class PairDraws(NamedTuple):
    """A statistic of every pair: draws × attackers × victims, the first draw being the data; NaN: no pair.

    ``groups``: whose draws these are; without them the groups are taken to be large.
    """

    values: FloatArray
    groups: Groups | None = None

    @property
    def observed(self) -> FloatArray:
        """Attackers × victims."""
        return self.values[0]

    def estimate(self, attackers: slice, victims: Sequence[int], level: float) -> Estimate | None:
        """Return the mean over the judged pairs of ``attackers`` × ``victims``; None where there is none."""
        block = self.values[:, attackers, :][:, :, list(victims)]
        judged = [v for v, pair in zip(victims, block[0].T, strict=True) if not np.isnan(pair).all()]
        if not judged:
            return None
        means = np.nanmean(block, axis=(1, 2))
        freedom = math.inf if self.groups is None else self.groups.freedom(judged)
        tail = float(special.ndtr(t_quantile(level, freedom)))
        low, high = percentile_ends(means[1:], 2.0 * tail - 1.0)
        value = float(means[0])
        return Estimate(value, min(float(low), value), max(float(high), value), level, METHOD)


def pair_accuracies(
    scores: FloatArray, thresholds: FloatArray, groups: Groups, weights: FloatArray
) -> PairDraws:
    """Return the balanced accuracy of every pair.

    Args:
        scores: attackers × scans of the cohort; NaN where a scan was not judged.
        thresholds: one per attacker; a score above it is called a member.
        groups: who is judged; a victim's own row of scores may be all NaN.
        weights: of ``Groups.weights``.
    """
    called = (scores > thresholds[:, None]).astype(np.float64)
    hits = _rates(called, scores, groups.members, weights)
    alarms = _rates(called, scores, groups.non_members, weights)
    return PairDraws((hits + 1.0 - alarms) / 2.0, groups)


def _rates(
    called: FloatArray, scores: FloatArray, rows_of: Sequence[IntArray], weights: FloatArray
) -> FloatArray:
    """Return the weighted share of scans called members: draws × attackers × victims."""
    found = np.full((len(weights), len(scores), len(rows_of)), np.nan)
    for victim, rows in enumerate(rows_of):
        judged = np.isfinite(scores[:, rows]).all(axis=1)
        total = weights[:, rows].sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = weights[:, rows] @ called[np.ix_(judged, rows)].T / total[:, None]
        found[:, judged, victim] = share
    return found


def pair_aucs(scores: FloatArray, groups: Groups, weights: FloatArray) -> PairDraws:
    """Return the AUC of every pair; see ``pair_accuracies`` for the arguments."""
    found = np.full((len(weights), len(scores), len(groups.members)), np.nan)
    for victim, (inside, outside) in enumerate(zip(groups.members, groups.non_members, strict=True)):
        norm = weights[:, inside].sum(axis=1) * weights[:, outside].sum(axis=1)
        for attacker, row in enumerate(scores):
            if not np.isfinite(row[inside]).all() or not np.isfinite(row[outside]).all():
                continue
            wins = (row[inside][:, None] > row[outside]) + 0.5 * (row[inside][:, None] == row[outside])
            with np.errstate(invalid="ignore", divide="ignore"):
                found[:, attacker, victim] = ((weights[:, inside] @ wins) * weights[:, outside]).sum(1) / norm
    return PairDraws(found, groups)


def cells(draws: PairDraws, level: float = 0.95) -> list[list[Estimate | None]]:
    """Return every pair's estimate, None where there is no pair."""
    return [
        [draws.estimate(slice(a, a + 1), [v], level) for v in range(draws.values.shape[2])]
        for a in range(draws.values.shape[1])
    ]


def mean_over_pairs(draws: PairDraws, level: float = 0.95) -> Estimate:
    """Return the mean over all pairs: the attack's success without a choice of pairs."""
    return _require(draws.estimate(slice(None), range(draws.values.shape[2]), level))


def mean_over_attackers(draws: PairDraws, victim: int, level: float = 0.95) -> Estimate:
    """Return the mean over the attackers of one victim."""
    return _require(draws.estimate(slice(None), [victim], level))


class SuccessfulPairs(NamedTuple):
    """Mean over the pairs above one half, and their number; no interval: the choice of pairs biases it."""

    mean: float | None
    pairs: int


def successful_pairs(draws: PairDraws) -> SuccessfulPairs:
    """Return the mean over the pairs above one half, as the paper's tables 2 and 5 print it."""
    above = draws.observed[draws.observed > HALF]
    return SuccessfulPairs(float(above.mean()) if len(above) else None, len(above))


def difference(a: PairDraws, b: PairDraws) -> PairDraws:
    """Return ``a`` minus ``b``, draw by draw: paired if both were made with the same weights.

    Raises:
        ValueError: if they do not hold the same draws and pairs.
    """
    if a.values.shape != b.values.shape:
        raise ValueError(
            f"A difference needs the same draws and pairs, got {a.values.shape} and {b.values.shape}. "
            "Make both with the same weights."
        )
    return PairDraws(a.values - b.values, a.groups)


def _require(estimate: Estimate | None) -> Estimate:
    if estimate is None:
        raise ValueError("A mean over pairs needs a judged pair, got none. Give learners and unseen scans.")
    return estimate
