"""Reference-model attacks as their papers print them: one scan, one model, one population scan at a time."""

import math

import numpy as np
from scipy.stats import norm


def outs(residuals, membership, scan):
    return [r[scan] for r, m in zip(residuals, membership, strict=True) if m[scan] == 0]


def ins(residuals, membership, scan):
    return [r[scan] for r, m in zip(residuals, membership, strict=True) if m[scan] == 1]


def pooled_sd(residuals, membership, kind):
    squares, freedom = 0.0, 0
    for scan in range(len(residuals[0])):
        values = kind(residuals, membership, scan)
        if values:
            mean = sum(values) / len(values)
            squares += sum((v - mean) ** 2 for v in values)
            freedom += len(values) - 1
    return math.sqrt(squares / freedom)


def lira_online(target, residuals, membership, *, own_variance=False):
    s_in, s_out = pooled_sd(residuals, membership, ins), pooled_sd(residuals, membership, outs)
    scores = []
    for scan, r in enumerate(target):
        inside, outside = ins(residuals, membership, scan), outs(residuals, membership, scan)
        if own_variance:
            s_in, s_out = np.std(inside, ddof=1), np.std(outside, ddof=1)
        scores.append(
            norm.logpdf(r, np.mean(inside), s_in) - norm.logpdf(r, np.mean(outside), s_out),
        )
    return scores


def lira_offline(target, residuals, membership):
    s_out = pooled_sd(residuals, membership, outs)
    scores = []
    for scan, r in enumerate(target):
        mean = np.mean(outs(residuals, membership, scan))
        scores.append(math.log(norm.sf(abs(r), mean, s_out) + norm.cdf(-abs(r), mean, s_out)))
    return scores


def marginal(references, scale, a):
    mean = sum(math.exp(-(k**2) / (2 * scale**2)) for k in references) / len(references)
    return 0.5 * ((1 + a) * mean + (1 - a))


def ratio(r, references, scale, a):
    return math.exp(-(r**2) / (2 * scale**2)) / marginal(references, scale, a)


def rmia(target, population, *, residuals, membership, population_rows, target_rows, a):
    """Return for each scan the number of population scans it is not below (double loop)."""
    scale = pooled_sd(residuals, membership, outs)
    counts = []
    for row, r in zip(target_rows, target, strict=True):
        mine = ratio(r, outs(residuals, membership, row), scale, a)
        count = 0
        for other, z in zip(population_rows, population, strict=True):
            theirs = ratio(z, outs(residuals, membership, other), scale, a)
            count += mine / theirs >= 1.0
        counts.append(count)
    return counts


def base(target, residuals, membership):
    scale = pooled_sd(residuals, membership, outs)
    scores = []
    for scan, r in enumerate(target):
        losses = [v**2 / (2 * scale**2) for v in outs(residuals, membership, scan)]
        mean = sum(math.exp(-loss) for loss in losses) / len(losses)
        scores.append(-(r**2) / (2 * scale**2) - math.log(mean))
    return scores


def informia(scans, population, *, scale, a):
    """Return log p(x|θ)/p(x) + KL(p(z) ‖ p(z|θ)); both cases are (target, references, membership)."""
    target, residuals, membership = scans
    mine, theirs, states = population
    total = divergence = 0.0
    for z, r in enumerate(mine):
        outside = outs(theirs, states, z)
        if outside:
            weight = marginal(outside, scale, a)
            total += weight
            divergence += weight * math.log(1.0 / ratio(r, outside, scale, a))
    return [
        math.log(ratio(r, outs(residuals, membership, x), scale, a)) + divergence / total
        for x, r in enumerate(target)
    ]
