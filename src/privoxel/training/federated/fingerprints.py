"""What a site may say of its images so that others can tell a shared person or another preprocessing.

Keyed hashes leave a site only if it opts in, with a secret that the server does not have; quantiles of the
normalised intensities, averaged over scans, say how images were prepared and nothing about a person.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from privoxel.arrays import IntArray
from privoxel.cohort.base import Cohort

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SCANS = 20
FARTHEST = 0.35
"""SDs of a scan's voxels by which mean quantiles of two sites may differ.

Real 3 T and 1.5 T scanners differed by at most 0.19, a bright ring in place of the skull by 0.5 and more.
"""


def keyed_hashes(cohort: Cohort, rows: IntArray, secret: bytes) -> list[str]:
    """Return one keyed hash (HMAC-SHA256) for each image at ``rows``, sorted: their order tells nothing."""
    return sorted(
        hmac.new(secret, cohort.volume(int(row)).tobytes(), hashlib.sha256).hexdigest() for row in rows
    )


def secret_mark(secret: bytes) -> str:
    """Return what tells one secret from another and says nothing else of it (HMAC-SHA256 of a fixed text)."""
    return hmac.new(secret, b"privoxel: which secret", hashlib.sha256).hexdigest()


def mean_quantiles(cohort: Cohort, rows: IntArray) -> list[float]:
    """Return the intensity quantiles of the first scans at ``rows``, averaged, in SDs of a scan's voxels."""
    found = [np.quantile(cohort.volume(int(row)), QUANTILES) for row in rows[:SCANS]]
    return [float(value) for value in np.mean(found, axis=0)]


def shared_images(hashes: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], int]:
    """Return the number of images that two sites both hold, by pair of sites, where there are any."""
    sets = {name: set(values) for name, values in hashes.items() if values}
    counts = {pair: len(sets[pair[0]] & sets[pair[1]]) for pair in combinations(sets, 2)}
    return {pair: count for pair, count in counts.items() if count}


def prepared_otherwise(quantiles: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the sites whose quantiles lie far from those of more than half of the others, and how far (SDs).

    With two sites neither can be told to be the odd one: both are named.
    """
    finite = {name: np.asarray(values) for name, values in quantiles.items() if np.isfinite(values).all()}
    far = {}
    for name, values in finite.items():
        others = [other for site, other in finite.items() if site != name]
        distances = np.array([np.abs(values - other).max() for other in others])
        if np.count_nonzero(distances > FARTHEST) > len(others) / 2:
            far[name] = float(np.median(distances))
    return far
