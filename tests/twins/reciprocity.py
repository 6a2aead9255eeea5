"""The missing covariance of attackers that judge each other's teachers, by loops over everyone."""

import math


def slow_widening(parts, seen, kinds):
    attackers, people = range(len(parts)), range(len(kinds))
    judged = [[j for j in attackers if seen[j][e]] for e in people]
    taught = [[j for j in attackers if judged[e] and not seen[j][e]] for e in people]
    teachers = [[i for i in people if j in taught[i]] for j in attackers]
    shares = [
        len(set(teachers[j]) & set(teachers[k])) / len(teachers[j])
        for j in attackers
        for k in attackers
        if j != k
    ]
    alike = sum(shares) / len(shares)
    sd = {}
    for kind in set(kinds):
        squares = freedom = 0.0
        for e in people:
            if kinds[e] == kind and judged[e]:
                mean = sum(parts[j][e] for j in judged[e]) / len(judged[e])
                squares += sum((parts[j][e] - mean) ** 2 for j in judged[e])
                freedom += len(judged[e]) - 1
        sd[kind] = math.sqrt(squares / freedom / (1.0 - alike))
    missing = 0.0
    for e in people:
        for j in judged[e]:
            for k in taught[e]:
                lent = sum(sd[kinds[i]] for i in teachers[j] if seen[k][i])
                missing += sd[kinds[e]] * lent / len(teachers[j])
    variance = sum(sum(parts[j][e] for j in attackers) ** 2 for e in people)
    return math.sqrt(1.0 + min(missing / variance, 1.0))
