"""People who are in a cohort twice: the same voxels, a re-processed copy, or another scan of them.

Two scans count as of one person if they are more alike (``likeness.py``) than any pair of different people is
expected to be. The limit comes from the cohort itself. The squared cosine of random directions in k
dimensions has a Beta(1/2, (k - 1)/2) law, so that ``-ln(1 - likeness²)`` has a nearly exponential tail of
scale 2/(k - 1). Real people are not random directions, so the scale is measured, by peaks over a threshold
(Pickands 1975, Ann. Stat. 3:119): of all pairs of different names the ``2 n`` most alike are taken (n scans);
their median excess over the least of them, divided by ln 2, is the scale, which duplicates hardly move as
they are few among 2 n. The limit is where ``EXPECTED`` pairs of different people are expected in the whole
cohort, and never lower than for random directions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from privoxel.arrays import Float32Array, IntArray
from privoxel.cohort.likeness import SAMPLE, Fingerprints

EXPECTED = 0.001
"""Pairs of different people expected above the limit in a whole cohort, were the tail exponential.

At 0.01 one of six simulated cohorts showed such a pair: the tail is a little heavier. This value was then
fixed (benchmarks/RESULTS.md).
"""

ALMOST_ONE = 1 - 1e-6

FEWEST = 16
"""Scans below which no limit is set."""

BLOCK = 1024


class Pair(NamedTuple):
    """Two scans (rows, the first one lower) under different names that show one person."""

    first: int
    second: int
    likeness: float
    is_identical: bool


@final
@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of scans of different names that show one person, most alike first.

    ``limit`` is the likeness above which a pair counts; None where the scans are too few to set one, and only
    identical voxels were looked for.
    """

    pairs: tuple[Pair, ...]
    limit: float | None


def near_duplicates(prints: Fingerprints, people: IntArray) -> NearDuplicates:
    """Return the pairs of scans that show one person under two names.

    Args:
        prints: of all scans.
        people: a number for each scan that says whose it is.
    """
    identical = _identical(prints.content, people)
    limit = likeness_limit(prints.vectors, people)
    found = [] if limit is None else _alike(prints.vectors, people, limit)
    alike = [pair for pair in found if (pair.first, pair.second) not in identical]
    same = [Pair(first, second, 1.0, is_identical=True) for first, second in sorted(identical)]
    return NearDuplicates((*same, *sorted(alike, key=lambda pair: -pair.likeness)), limit)


def likeness_limit(vectors: Float32Array, people: IntArray) -> float | None:
    """Return the likeness that no pair of different people is expected to reach; None for too few scans.

    Args:
        vectors: of all scans, of length 1 (0 where a scan cannot be read).
        people: a number for each scan that says whose it is.
    """
    wanted = 2 * int(np.any(vectors != 0, axis=1).sum())
    highest = np.empty(0, np.float32)
    lowest = -np.inf
    for _, _, likeness in _blocks(vectors, people):
        highest = np.concatenate([highest, likeness[likeness > lowest]])
        if len(highest) > wanted:
            highest = np.partition(highest, len(highest) - wanted)[-wanted:]
            lowest = float(highest[0])
    if len(highest) < max(wanted, 2 * FEWEST):
        return None
    depth = -np.log1p(-np.square(np.clip(highest.astype(np.float64), 0.0, ALMOST_ONE)))
    scale = (np.median(depth) - depth.min()) / np.log(2)
    measured = float(depth.min() + scale * np.log(wanted / EXPECTED))
    return _likeness_at(max(measured, _random_depth(vectors.shape[1], wanted // 2)))


def _random_depth(dimensions: int, scans: int) -> float:
    """Return the depth that random directions pass in ``EXPECTED`` pairs of a cohort.

    Whitened by their own components, the squared likeness of ``scans`` scans is smaller by the share of
    dimensions that the components take.
    """
    pairs = scans * (scans - 1) / 2
    taken = dimensions / scans if scans <= SAMPLE else 0.0
    return 2 * (1 - taken) / max(dimensions - 1, 1) * float(np.log(pairs / EXPECTED))


def _likeness_at(depth: float) -> float:
    return float(np.sqrt(-np.expm1(-depth)))


def _blocks(vectors: Float32Array, people: IntArray) -> Iterator[tuple[IntArray, IntArray, Float32Array]]:
    """Yield rows, columns and likeness of all pairs of different people, each once, block by block."""
    readable = np.flatnonzero(np.any(vectors != 0, axis=1))
    chosen, whose = vectors[readable], people[readable]
    for start in range(0, len(readable), BLOCK):
        block = chosen[start : start + BLOCK] @ chosen[start:].T
        wanted = whose[start : start + BLOCK, None] != whose[None, start:]
        rows, columns = np.nonzero(np.triu(wanted, 1))
        yield readable[start + rows], readable[start + columns], block[rows, columns]


def _identical(content: Sequence[str], people: IntArray) -> set[tuple[int, int]]:
    rows: dict[str, list[int]] = {}
    for row, digest in enumerate(content):
        if digest:
            rows.setdefault(digest, []).append(row)
    return {
        (same[0], other) for same in rows.values() for other in same[1:] if people[same[0]] != people[other]
    }


def _alike(vectors: Float32Array, people: IntArray, limit: float) -> Iterator[Pair]:
    for rows, columns, likeness in _blocks(vectors, people):
        for place in np.flatnonzero(likeness > limit):
            yield Pair(int(rows[place]), int(columns[place]), float(likeness[place]), is_identical=False)
