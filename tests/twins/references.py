"""Reference-model attacks as their papers print them: one scan, one model, one population scan at a time."""

import math

import numpy as np
from scipy.stats import norm, t


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


def lira_offline(target, residuals, membership, *, own_variance=False):
    s_out = pooled_sd(residuals, membership, outs)
    scores = []
    for scan, r in enumerate(target):
        outside = outs(residuals, membership, scan)
        mean = np.mean(outside)
        if own_variance:
            s_out = np.std(outside, ddof=1)
        tails = norm.logsf(abs(r), mean, s_out), norm.logcdf(-abs(r), mean, s_out)
        scores.append(max(tails) + math.log1p(math.exp(min(tails) - max(tails))))
    return scores


def gaussian(r, scale):
    return math.exp(-(r**2) / (2 * scale**2))


def student(r, scale):
    """Return the density of Student's t with 4 degrees of freedom and SD ``scale``, over that at 0."""
    return t.pdf(r, 4, scale=scale / math.sqrt(2)) / t.pdf(0, 4, scale=scale / math.sqrt(2))


def marginal(references, scale, a, density=gaussian):
    mean = sum(density(k, scale) for k in references) / len(references)
    return 0.5 * ((1 + a) * mean + (1 - a))


def marginal_online(inside, outside, scale):
    means = [sum(math.exp(-(k**2) / (2 * scale**2)) for k in kind) / len(kind) for kind in (inside, outside)]
    return (means[0] + means[1]) / 2


def ratio(r, references, scale, a, density=gaussian):
    return density(r, scale) / marginal(references, scale, a, density)


def rmia(target, population, *, residuals, membership, population_rows, target_rows, a=None):
    """Return for each scan the number of population scans it is not below (double loop); online without a."""
    scale = pooled_sd(residuals, membership, outs)

    def ratio_of(r, row):
        inside, outside = ins(residuals, membership, row), outs(residuals, membership, row)
        if a is None:
            return math.exp(-(r**2) / (2 * scale**2)) / marginal_online(inside, outside, scale)
        return ratio(r, outside, scale, a)

    counts = []
    for row, r in zip(target_rows, target, strict=True):
        count = 0
        for other, z in zip(population_rows, population, strict=True):
            count += ratio_of(r, row) / ratio_of(z, other) >= 1.0
        counts.append(count)
    return counts


def base(target, residuals, membership, *, factor=0.33):
    """Return LeakPro's offline score: the log-confidence minus 0.33 times the threshold."""
    scale = pooled_sd(residuals, membership, outs)
    scores = []
    for scan, r in enumerate(target):
        losses = [v**2 / (2 * scale**2) for v in outs(residuals, membership, scan)]
        threshold = math.log(sum(math.exp(-loss) for loss in losses) / len(losses))
        scores.append(-(r**2) / (2 * scale**2) - factor * threshold)
    return scores


def base_online(target, residuals, membership):
    """Return LeakPro's online score: the threshold is over IN and OUT models, and counts in full."""
    scale = pooled_sd(residuals, membership, outs)
    scores = []
    for scan, r in enumerate(target):
        known = ins(residuals, membership, scan) + outs(residuals, membership, scan)
        threshold = math.log(sum(math.exp(-(v**2) / (2 * scale**2)) for v in known) / len(known))
        scores.append(-(r**2) / (2 * scale**2) - threshold)
    return scores


def informia(scans, population, *, scale, a, density=gaussian):
    """Return log p(x|θ)/p(x) + KL(p(z) ‖ p(z|θ)); both cases are (target, references, membership)."""
    target, residuals, membership = scans
    mine, theirs, states = population
    total = divergence = 0.0
    for z, r in enumerate(mine):
        outside = outs(theirs, states, z)
        if outside:
            weight = marginal(outside, scale, a, density)
            total += weight
            divergence += weight * math.log(1.0 / ratio(r, outside, scale, a, density))
    return [
        math.log(ratio(r, outs(residuals, membership, x), scale, a, density)) + divergence / total
        for x, r in enumerate(target)
    ]
