"""Slow, obvious versions of the evaluation's formulas: loops over pairs, scans and participants."""

import math

import numpy as np

from privoxel.evaluation.scored import Evaluated


def pair_order(member: float, non_member: float) -> float:
    if member > non_member:
        return 1.0
    return 0.5 if member == non_member else 0.0


def classes(evaluated: Evaluated, row: int) -> tuple[list[int], list[int]]:
    seen = [scan for scan in range(len(evaluated.members)) if not math.isnan(evaluated.scores[row, scan])]
    members = [scan for scan in seen if evaluated.members[scan]]
    return members, [scan for scan in seen if not evaluated.members[scan]]


def auc_by_counting_pairs(evaluated: Evaluated, weights: np.ndarray | None = None) -> float:
    weights = np.ones(len(evaluated.members)) if weights is None else weights
    per_repeat = []
    for row, scores in enumerate(evaluated.scores):
        members, others = classes(evaluated, row)
        right = sum(
            weights[i] * weights[j] * pair_order(scores[i], scores[j]) for i in members for j in others
        )
        pairs = sum(weights[i] * weights[j] for i in members for j in others)
        if pairs:
            per_repeat.append(right / pairs)
    return float(np.mean(per_repeat))


def contributions_by_pairs(evaluated: Evaluated) -> dict[int, float]:
    """What each participant adds to the mean AUC (DeLong's components, summed over scans and repeats)."""
    total = {int(code): 0.0 for code in evaluated.participants}
    repeats = len(evaluated.scores)
    for row, scores in enumerate(evaluated.scores):
        members, others = classes(evaluated, row)
        pairs = {(i, j): pair_order(scores[i], scores[j]) for i in members for j in others}
        auc = sum(pairs.values()) / len(pairs)
        for group, own in ((members, 0), (others, 1)):
            people = {int(evaluated.participants[scan]) for scan in group}
            factor = math.sqrt(len(people) / (len(people) - 1))
            for scan in group:
                mine = [value for pair, value in pairs.items() if pair[own] == scan]
                deviation = sum(mine) / len(mine) - auc
                total[int(evaluated.participants[scan])] += factor * deviation / len(group) / repeats
    return total


def delong_variance(evaluated: Evaluated) -> float:
    return sum(value**2 for value in contributions_by_pairs(evaluated).values())


def paired_variance(a: Evaluated, b: Evaluated) -> float:
    first, second = contributions_by_pairs(a), contributions_by_pairs(b)
    return sum((first[person] - second[person]) ** 2 for person in first)


def textbook_delong_variance(members: np.ndarray, non_members: np.ndarray) -> float:
    """DeLong 1988 for one scan each: S10 / m + S01 / n."""
    table = np.array([[pair_order(x, y) for y in non_members] for x in members])
    tops, bottoms = table.mean(axis=1), table.mean(axis=0)
    return float(np.var(tops, ddof=1) / len(members) + np.var(bottoms, ddof=1) / len(non_members))


def balanced_accuracy_by_counting(evaluated: Evaluated, weights: np.ndarray | None = None) -> float:
    weights = np.ones(len(evaluated.members)) if weights is None else weights
    found, cleared = [], []
    for row, scores in enumerate(evaluated.scores):
        members, others = classes(evaluated, row)
        limit = evaluated.thresholds[row]
        if sum(weights[members]):
            found.append(sum(weights[i] for i in members if scores[i] > limit) / sum(weights[members]))
        if sum(weights[others]):
            cleared.append(sum(weights[j] for j in others if not scores[j] > limit) / sum(weights[others]))
    return float(np.mean(found) + np.mean(cleared)) / 2.0


def tpr_by_trying_thresholds(evaluated: Evaluated, fpr: float, weights: np.ndarray | None = None) -> float:
    """The most members called by any rule "score > t" or "score >= t" that calls few enough non-members."""
    weights = np.ones(len(evaluated.members)) if weights is None else weights
    per_repeat = []
    for row, scores in enumerate(evaluated.scores):
        members, others = classes(evaluated, row)
        if not sum(weights[members]) or not sum(weights[others]):
            continue
        best = 0.0
        for limit in [*scores[members + others], math.inf]:
            for called in (lambda score, t=limit: score > t, lambda score, t=limit: score >= t):
                wrong = sum(weights[j] for j in others if called(scores[j])) / sum(weights[others])
                right = sum(weights[i] for i in members if called(scores[i])) / sum(weights[members])
                best = max(best, right) if wrong <= fpr + 1e-9 else best
        per_repeat.append(best)
    return float(np.mean(per_repeat))


def best_balanced_accuracy(scores: np.ndarray, members: np.ndarray) -> float:
    """The best balanced accuracy of any threshold, by trying every score and one below them."""
    limits = [-math.inf, *sorted(scores)]
    return max(balanced_accuracy_at(scores, members, limit) for limit in limits)


def balanced_accuracy_at(scores: np.ndarray, members: np.ndarray, limit: float) -> float:
    called = scores > limit
    return float((called[members].mean() + (~called[~members]).mean()) / 2.0)


def mean_share_weights(evaluated: Evaluated, of_members: bool) -> float:
    """Kish's effective number of participants of one class, participant by participant."""
    shares: dict[int, float] = {}
    for row in range(len(evaluated.scores)):
        group = classes(evaluated, row)[0 if of_members else 1]
        for scan in group:
            code = int(evaluated.participants[scan])
            shares[code] = shares.get(code, 0.0) + 1.0 / len(group) / len(evaluated.scores)
    return 1.0 / sum(share**2 for share in shares.values())
