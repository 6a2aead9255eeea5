"""The best of many attacks: its AUC with an interval and a p-value that account for the choice.

Two ways. ``best_of_many`` compares the largest standardised AUC with what the largest would be if no attack
worked: memberships are exchanged between participants, for all attacks at once, so that their correlation is
kept. Scores stay as they are, so that the spread over exchanges, as any interval, is widened where attackers
judge each other's teachers (``reciprocity``). ``held_out_best`` chooses on one half of the participants and
measures on the other.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.evaluation.combine import over_targets
from privoxel.evaluation.intervals import auc_contributions, cluster_codes
from privoxel.evaluation.metrics import auc
from privoxel.evaluation.multipliers import BLOCK, FLOOR, largest_deviation, said_among, standard_errors
from privoxel.evaluation.scored import Estimate, Evaluated


class Best(NamedTuple):
    """The chosen attack; ``auc`` holds for it although it was chosen.

    ``p_value`` is one-sided, against "no attack ranks members above non-members". ``candidates`` is how many
    attacks were compared.
    """

    name: str
    auc: Estimate
    p_value: float
    candidates: int


def best_of_many(
    attacks: Mapping[str, Evaluated],
    rng: np.random.Generator,
    *,
    draws: int = 999,
    level: float = 0.95,
    others: Sequence[Mapping[str, Evaluated]] = (),
) -> Best:
    """Return the attack of the largest standardised AUC, with a simultaneous interval and the max-T p-value.

    The p-value is (1 + draws at least as extreme) / (1 + draws). The memberships of participants that the
    same repeats evaluate, with as many scans, are exchanged. The interval is AUC ± q · standard error, q
    being the ``level`` quantile of the largest absolute deviation over all attacks when each participant's
    contribution is multiplied by a standard normal, with Student's t for few participants. Where the setting
    was chosen, too, ``others`` are the attacks of the other settings on the same people, and the interval
    holds over all of them.

    Raises:
        ValueError: if there is no attack, the attacks do not score the same participants, or a participant
            is on both sides.

    References:
        Westfall and Young 1993, section 2.3 (max T); Chernozhukov et al. 2013 (Gaussian multipliers).
    """
    names, scored = list(attacks), list(attacks.values())
    _check_alike(scored)
    values, deviations, widenings = _values_and_deviations(scored)
    null = _null_areas(scored, rng, draws)
    spread = np.maximum(null.std(axis=0), FLOOR)
    reached, largest = (values - 0.5) / (spread * widenings), ((null - 0.5) / spread).max(axis=1)
    chosen = int(reached.argmax())
    p_value = (1.0 + float((largest >= reached[chosen] - FLOOR).sum())) / (1.0 + draws)
    freedom = max(min(scored[0].n_members, scored[0].n_non_members) - 1, 1)
    more = [one for other in others for one in other.values()]
    if more:
        _check_alike([scored[0], *more])
        deviations = np.concatenate([deviations, _values_and_deviations(more).deviations])
    reach = largest_deviation(deviations, freedom, rng, level) * float(standard_errors(deviations)[chosen])
    value, single = float(values[chosen]), auc(scored[chosen], level)
    low, high = (
        max(min(value - reach, _end(single.low)), 0.0),
        min(max(value + reach, _end(single.high)), 1.0),
    )
    among = said_among(len(names), 1 + len(others))
    method = f"simultaneous over {among}, Gaussian multipliers of participants"
    return Best(
        names[chosen], Estimate(value, low, high, level, method, single.sd_repeats), p_value, len(names)
    )


def best_over_targets(
    targets: Sequence[Mapping[str, Evaluated]],
    rng: np.random.Generator,
    *,
    draws: int = 999,
    level: float = 0.95,
    others: Sequence[Sequence[Mapping[str, Evaluated]]] = (),
) -> Best:
    """Return the attack of the largest standardised mean AUC over targets, corrected for the choice.

    With one target this is ``best_of_many``. With several the memberships are exchanged within each target
    for the max-T p-value, alike in trainings of one design, and the interval is that over targets ×
    participants at the level that Bonferroni leaves to each attack and, where this setting was chosen among
    ``others``, setting. Participants' codes must be common to all targets.

    Raises:
        ValueError: as ``best_of_many``, or if the targets were not attacked alike.
    """
    if not targets or any(list(target) != list(targets[0]) for target in targets):
        raise ValueError(
            f"best_over_targets needs targets with the same attacks, got {len(targets)} targets. "
            "Keep the attacks they share."
        )
    if len(targets) == 1:
        return best_of_many(targets[0], rng, draws=draws, level=level, others=[other[0] for other in others])
    names = list(targets[0])
    for target in targets:
        _check_alike(list(target.values()))
    parts = [_values_and_deviations(list(target.values())) for target in targets]
    nulls = np.stack(_nulls_of(targets, rng, draws))
    null, widenings = nulls.mean(axis=0), _mean_widening(nulls, np.stack([part.widenings for part in parts]))
    spread = np.maximum(null.std(axis=0), FLOOR)
    values = np.mean([part.values for part in parts], axis=0)
    reached, largest = (values - 0.5) / (spread * widenings), ((null - 0.5) / spread).max(axis=1)
    chosen = int(reached.argmax())
    p_value = (1.0 + float((largest >= reached[chosen] - FLOOR).sum())) / (1.0 + draws)
    each = 1.0 - (1.0 - level) / (len(names) * (1 + len(others)))
    found = over_targets([target[names[chosen]] for target in targets], "auc", rng=rng, level=each)
    method = f"Bonferroni over {said_among(len(names), 1 + len(others))}: {found.method}"
    return Best(names[chosen], found._replace(level=level, method=method), p_value, len(names))


def held_out_best(
    attacks: Mapping[str, Evaluated], rng: np.random.Generator, *, draws: int = 999, level: float = 0.95
) -> Best:
    """Return the attack that is best on a random half of the participants, measured on the other half.

    Raises:
        ValueError: as ``best_of_many``, or where a class has fewer than two participants.
    """
    names, scored = list(attacks), list(attacks.values())
    _check_alike(scored)
    first = _half(scored[0], rng)
    chosen = int(np.argmax([float(auc_contributions(_only(one, first)).auc.mean()) for one in scored]))
    judged = _only(scored[chosen], ~first)
    found = best_of_many({names[chosen]: judged}, rng, draws=draws, level=level)
    estimate = auc(judged, level)
    method = f"{estimate.method}; chosen among {len(names)} on the other half"
    return Best(names[chosen], estimate._replace(method=method), found.p_value, len(names))


def _end(value: float | None) -> float:
    return 0.5 if value is None else value


class _Parts(NamedTuple):
    """Each attack's AUC, each participant's contribution to it (attacks × participants), and its widening."""

    values: FloatArray
    deviations: FloatArray
    widenings: FloatArray


def _values_and_deviations(scored: list[Evaluated]) -> _Parts:
    parts = [auc_contributions(one) for one in scored]
    values = np.array([part.auc.mean() for part in parts], dtype=np.float64)
    widenings = np.array([part.widening for part in parts], dtype=np.float64)
    deviations = np.stack([part.members + part.non_members for part in parts])
    return _Parts(values, deviations * widenings[:, None], widenings)


def _mean_widening(nulls: FloatArray, widenings: FloatArray) -> FloatArray:
    """Return by what factor the standard error of each attack's mean over targets grows.

    ``nulls``: targets × draws × attacks, whose spread ``widenings`` (targets × attacks) make wider.
    """
    variances = np.maximum(nulls.var(axis=1), FLOOR**2)
    return np.asarray(np.sqrt((variances * widenings**2).sum(axis=0) / variances.sum(axis=0)))


def _nulls_of(
    targets: Sequence[Mapping[str, Evaluated]], rng: np.random.Generator, draws: int
) -> list[FloatArray]:
    """Return ``_null_areas`` of each target; those with the same members exchange the same memberships."""
    begun: dict[bytes, Any] = {}
    found = []
    for scored in (list(target.values()) for target in targets):
        design = scored[0].members.tobytes() + scored[0].participants.tobytes()
        if design in begun:
            again = np.random.default_rng()
            again.bit_generator.state = begun[design]
            found.append(_null_areas(scored, again, draws))
        else:
            begun[design] = rng.bit_generator.state
            found.append(_null_areas(scored, rng, draws))
    return found


def _null_areas(scored: list[Evaluated], rng: np.random.Generator, draws: int) -> FloatArray:
    """Return the AUCs after the memberships were exchanged between participants: draws × attacks."""
    codes = cluster_codes(scored[0])
    strata = _strata(scored[0], codes)
    member = np.zeros(int(codes.max()) + 1, dtype=np.bool_)
    member[codes] = scored[0].members
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    ranks, pairs, offset = _rank_sums(scored)
    areas = np.empty((draws, len(scored)))
    for start in range(0, draws, BLOCK):
        labels = np.empty((min(BLOCK, draws - start), len(codes)))
        for row in labels:
            exchanged = member.copy()
            for inside in groups:
                exchanged[inside] = member[rng.permutation(inside)]
            row[:] = exchanged[codes]
        sums = (labels @ ranks).reshape(len(labels), len(pairs), len(scored))
        areas[start : start + BLOCK] = ((sums - offset[:, None]) / pairs[:, None]).sum(axis=1)
    return areas


def _rank_sums(scored: list[Evaluated]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ranks within each repeat (scans × repeats · attacks, 0 where unseen), pairs and offsets.

    A repeat's AUC, over the number of repeats, is (sum of the members' ranks - offset) / pairs. The exchange
    keeps the number of members of every repeat.
    """
    repeats = len(scored[0].scores)
    ranks = np.zeros((scored[0].scores.shape[1], repeats, len(scored)))
    pairs, offset = np.empty(repeats), np.empty(repeats)
    for repeat, seen in enumerate(~np.isnan(scored[0].scores)):
        for attack, one in enumerate(scored):
            ranks[seen, repeat, attack] = stats.rankdata(one.scores[repeat, seen])
        m = int(scored[0].members[seen].sum())
        pairs[repeat], offset[repeat] = m * (int(seen.sum()) - m) * repeats, m * (m + 1) / 2.0
    return ranks.reshape(len(ranks), -1), pairs, offset


def _strata(evaluated: Evaluated, codes: IntArray) -> IntArray:
    """Return a label a participant, equal where the same repeats evaluate as many of their scans."""
    seen = ~np.isnan(evaluated.scores)
    counts = np.stack([np.bincount(codes, weights=row) for row in seen], axis=1)
    return np.unique(counts, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _half(evaluated: Evaluated, rng: np.random.Generator) -> BoolArray:
    """Return a mask of the scans of a random half of the members and of the non-members."""
    drawn = []
    for group in (evaluated.members, ~evaluated.members):
        people = np.unique(evaluated.participants[group])
        if len(people) < 2:
            raise ValueError(f"held_out_best needs 2 participants of each class, got {len(people)}.")
        drawn.append(rng.permutation(people)[: len(people) // 2])
    return np.isin(evaluated.participants, np.concatenate(drawn))


def _only(evaluated: Evaluated, scans: BoolArray) -> Evaluated:
    """Return the repeats in which ``scans`` hold both classes, on those scans alone."""
    scores = evaluated.scores[:, scans]
    members, seen = evaluated.members[scans], ~np.isnan(scores)
    usable = (seen & members).any(axis=1) & (seen & ~members).any(axis=1)
    return Evaluated(scores[usable], evaluated.thresholds[usable], members, evaluated.participants[scans])


def _check_alike(scored: list[Evaluated]) -> None:
    if not scored:
        raise ValueError("Choosing the best attack needs at least one, got none. Give some.")
    first = scored[0]
    for one in scored:
        same = np.array_equal(one.members, first.members)
        if not (same and np.array_equal(one.participants, first.participants)) or not np.array_equal(
            np.isnan(one.scores), np.isnan(first.scores)
        ):
            raise ValueError(
                "Choosing the best attack needs the same scans in every attack, got others. Align their rows."
            )
    both = np.intersect1d(first.participants[first.members], first.participants[~first.members])
    if both.size:
        raise ValueError(
            f"Choosing the best attack needs one membership a participant, got {both.size} with two. Split "
            "by participant."
        )
