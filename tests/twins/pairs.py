"""Slow, obvious versions of pair statistics: count every scan, and every pair of scans."""


def slow_accuracy(scores, threshold, inside, outside, weights):
    """Return the weighted balanced accuracy of one attacker on one victim."""
    hits = sum(weights[row] for row in inside if scores[row] > threshold) / sum(weights[inside])
    alarms = sum(weights[row] for row in outside if scores[row] > threshold) / sum(weights[outside])
    return (hits + 1 - alarms) / 2


def slow_auc(scores, inside, outside, weights):
    """Return the weighted share of (member, non-member) pairs in the right order, ties half."""
    won = total = 0.0
    for a in inside:
        for b in outside:
            weight = weights[a] * weights[b]
            won += weight * (1.0 if scores[a] > scores[b] else 0.5 if scores[a] == scores[b] else 0.0)
            total += weight
    return won / total
