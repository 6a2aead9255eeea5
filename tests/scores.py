"""Simulated scores whose AUC is known: normal scores of members lie ``shift`` above those of non-members."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from privoxel.evaluation.draws import audit_draws, reproduction_draws
from privoxel.evaluation.scored import Evaluated

MEMBERS, OTHERS = 40, 60
"""Of ``learned``."""


@dataclass(frozen=True)
class Design:
    """How many participants, how often each is scanned and evaluated, and how alike their scans are."""

    members: int = 31
    non_members: int = 43
    shift: float = 1.0
    repeats: int = 1
    fraction: float = 1.0
    most_scans: int = 1
    likeness: float = 0.7
    repeat_noise: float = 0.0

    @property
    def spread(self) -> float:
        return math.hypot(1.0, self.repeat_noise)

    @property
    def auc(self) -> float:
        return float(norm.cdf(self.shift / self.spread / math.sqrt(2.0)))

    @property
    def balanced_accuracy(self) -> float:
        return float(norm.cdf(self.shift / self.spread / 2.0))

    def tpr(self, fpr: float) -> float:
        return float(norm.sf(norm.isf(fpr) - self.shift / self.spread))


def simulate(design: Design, rng: np.random.Generator) -> Evaluated:
    """Return one target's scores; the threshold of every repeat is the best one in truth."""
    people = design.members + design.non_members
    is_member = np.arange(people) < design.members
    scans = rng.integers(1, design.most_scans + 1, size=people)
    person = np.repeat(np.arange(people), scans)
    alike = rng.normal(size=people)[person] * math.sqrt(design.likeness)
    score = alike + rng.normal(size=len(person)) * math.sqrt(1.0 - design.likeness)
    score = score + design.shift * is_member[person]
    scores = np.full((design.repeats, len(person)), np.nan)
    for row in scores:
        seen = evaluated_people(is_member, design.fraction, rng)[person]
        row[seen] = score[seen] + design.repeat_noise * rng.normal(size=seen.sum())
    return Evaluated(scores, np.full(design.repeats, design.shift / 2.0), is_member[person], 3 * person + 7)


def evaluated_people(is_member: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Return a mask of the participants that one repeat evaluates, ``fraction`` of each class."""
    seen = np.zeros(len(is_member), dtype=bool)
    for group in (np.flatnonzero(is_member), np.flatnonzero(~is_member)):
        seen[rng.permutation(group)[: max(round(fraction * len(group)), 1)]] = True
    return seen


def one_repeat(members: object, non_members: object, threshold: float = 0.0) -> Evaluated:
    """Return one repeat in which every participant has one scan, from the scores of the two classes."""
    first, second = np.asarray(members, dtype=float), np.asarray(non_members, dtype=float)
    is_member = np.arange(len(first) + len(second)) < len(first)
    scores = np.concatenate([first, second])[None]
    return Evaluated(scores, np.array([threshold]), is_member, np.arange(len(is_member)))


def normal_grid(size: int, shift: float) -> np.ndarray:
    """Return normal quantiles at the middles of ``size`` equal shares, moved by ``shift``."""
    return norm.ppf((np.arange(size) + 0.5) / size) + shift


def learned(rng, features, protocol="audit", learns=True):
    """Return scores of attackers who learn the difference of two means of noise, or who do not learn."""
    signals = rng.normal(size=(MEMBERS + OTHERS, features))
    members = np.arange(MEMBERS + OTHERS) < MEMBERS
    codes = np.arange(len(members))
    if protocol == "audit":
        draws = audit_draws(members.astype(int), codes, rng=rng)
    else:
        draws = reproduction_draws(members.astype(int), codes, repeats=5, rng=rng)
    scores = np.full((len(draws), len(members)), np.nan)
    for row, draw in zip(scores, draws, strict=True):
        known = draw.leaked & members, draw.leaked & ~members
        direction = signals[known[0]].mean(axis=0) - signals[known[1]].mean(axis=0) if learns else 1.0
        row[draw.evaluated] = (signals * direction).sum(axis=1)[draw.evaluated]
    return Evaluated(scores, np.zeros(len(draws)), members, codes)
