"""A vector per scan in which two images of one brain are alike and those of two people are not.

Scans are averaged to voxels of about 4 mm and standardised over the brain. From the difference to the
cohort's mean all is taken out that an affine misregistration (the twelve derivatives of the mean) or a smooth
change of brightness and contrast (second-order polynomials, plain and times the mean) can do to first order.
What is left is scaled to one length, so that no odd scan decides, and whitened: principal components count
alike, so that what many people share (large ventricles, a scanner) does not make them look alike. The cosine
of two such vectors is the likeness of two scans.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from scipy import ndimage

from privoxel.arrays import BoolArray, Float32Array, FloatArray
from privoxel.cohort.cache import threads
from privoxel.cohort.preprocess import background_of

COARSE_MM = 4.0
SMOOTH = 0.7
"""SD of the Gaussian that coarse scans are smoothed by, coarse voxels: less noise, less harm by a shift."""

SAMPLE = 1000
"""Scans that the components are taken from, spread evenly over the cohort."""

COMPONENTS = 256
SHRINKAGE = 0.1
"""Share of the mean kept variance that is added to each before whitening."""

VISIBLE = 0.1
"""Difference to the background, in SDs of a scan, from which a voxel counts as tissue."""

BATCH = 64


class Reading(NamedTuple):
    """One scan as it is compared: the digest of its voxels, and the voxels coarsened (float32)."""

    content: str
    coarse: Float32Array


@final
@dataclass(frozen=True)
class Likeness:
    """What a cohort's scans are measured by: ``vectors = (standardised voxels in mask - mean) @ weights``."""

    mask: BoolArray
    mean: Float32Array
    weights: Float32Array

    def vectors(self, coarse: Sequence[Float32Array]) -> Float32Array:
        """Return one vector of length 1 for each coarse scan: scans × components."""
        left: Float32Array = _standardised(coarse, self.mask) - self.mean
        return _unit(left @ self.weights)


class Fingerprints(NamedTuple):
    """Of each scan the digest of its voxels ("" where it cannot be read) and its vector (0 there)."""

    content: tuple[str, ...]
    vectors: Float32Array


def content_of(volume: Float32Array) -> str:
    """Return a digest of a volume's voxels: equal for the same preprocessed values, to the last bit."""
    return hashlib.blake2b(volume.tobytes(), digest_size=20).hexdigest()


def fingerprints(
    volume: Callable[[int], Float32Array | None],
    length: int,
    *,
    voxel_mm: float,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Fingerprints:
    """Return the digests and vectors of ``length`` scans, each read once.

    At most 1,000 coarse scans are held in memory.

    Args:
        volume: gives the volume of a row, None where it cannot be used; called from several threads.
        length: number of rows.
        voxel_mm: edge of a voxel, mm.
        workers: threads that read; by default one per core, at most 8.
        progress: called with 1 whenever a scan is read.
    """
    factor = max(1, round(COARSE_MM / voxel_mm))
    sample = np.unique(np.linspace(0, max(length - 1, 0), min(length, SAMPLE)).astype(np.int64))
    rest = np.setdiff1d(np.arange(length), sample)
    content, vectors = [""] * length, np.zeros((length, 0), np.float32)

    def read(row: int) -> Reading | None:
        values = volume(int(row))
        if values is None:
            return None
        return Reading(content_of(values), coarsened(values, factor))

    with threads(workers) as pool:
        likeness = None
        for rows in (sample, *(rest[start : start + BATCH] for start in range(0, len(rest), BATCH))):
            readings = []
            for reading in pool.map(read, rows):
                readings.append(reading)
                if progress:
                    progress(1)
            good = [(int(row), reading) for row, reading in zip(rows, readings, strict=True) if reading]
            for row, reading in good:
                content[row] = reading.content
            if likeness is None:
                likeness = fit_likeness([reading.coarse for _, reading in good])
                vectors = np.zeros((length, likeness.weights.shape[1]), np.float32)
            if good:
                vectors[[row for row, _ in good]] = likeness.vectors([reading.coarse for _, reading in good])
    return Fingerprints(tuple(content), vectors)


def coarsened(volume: Float32Array, factor: int) -> Float32Array:
    """Return smoothed means over blocks of ``factor`` voxels along each axis; the background is 0.

    What does not fill a block is dropped.
    """
    shape = [n // factor for n in volume.shape]
    kept = volume[tuple(slice(0, n * factor) for n in shape)]
    blocks = kept.reshape([part for n in shape for part in (n, factor)])
    coarse: Float32Array = blocks.mean(axis=(1, 3, 5), dtype=np.float32) if factor > 1 else kept
    coarse = coarse - np.float32(background_of(coarse))
    return ndimage.gaussian_filter(coarse, SMOOTH, mode="constant", truncate=3)


def fit_likeness(coarse: Sequence[Float32Array]) -> Likeness:
    """Return what the scans of a cohort are compared by; half as many components as scans, at most 256."""
    if not coarse:
        return Likeness(np.ones((1, 1, 1), np.bool_), np.zeros(1, np.float32), np.zeros((1, 0), np.float32))
    mask = _tissue(coarse)
    values = _standardised(coarse, mask)
    mean = values.mean(axis=0)
    picture = np.zeros(mask.shape)
    picture[mask] = mean
    harmless = nuisances(picture, mask).astype(np.float32)
    left = values
    left -= mean
    left -= (left @ harmless) @ harmless.T
    left = _unit(left)
    spread, directions = np.linalg.eigh((left @ left.T).astype(np.float64))
    kept = min(COMPONENTS, len(coarse) // 2, int((spread > 1e-6 * max(spread[-1], 1e-12)).sum()))
    if kept == 0:  # a single scan, or scans that are all alike
        return Likeness(mask, mean, np.zeros((len(mean), 0), np.float32))
    spread, directions = spread[::-1][:kept], directions[:, ::-1][:, :kept]
    axes = left.T @ (directions / np.sqrt(spread)).astype(np.float32)
    variance = spread / len(coarse)
    weights = axes / np.sqrt(variance + SHRINKAGE * variance.mean()).astype(np.float32)
    return Likeness(mask, mean, weights - harmless @ (harmless.T @ weights))


def nuisances(mean: FloatArray, mask: BoolArray) -> FloatArray:
    """Return an orthonormal basis of what misregistration and shading do to the mean: voxels × 32 at most.

    An affine change moves the mean along its gradient times 1, x, y or z, per axis (12 directions); shading
    adds a polynomial of second order (10), or multiplies the mean by one (10).
    """
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in mean.shape), indexing="ij")
    one = np.ones_like(mean)
    slopes: list[FloatArray] = list(np.gradient(mean))
    columns = [slope * along for slope in slopes for along in (one, *axes)]
    squares = [axes[i] * axes[j] for i in range(3) for j in range(i, 3)]
    columns += [part * factor for part in (one, *axes, *squares) for factor in (one, mean)]
    matrix = np.stack([column[mask] for column in columns], axis=1)
    basis, size, _ = np.linalg.svd(matrix / (np.linalg.norm(matrix, axis=0) + 1e-12), full_matrices=False)
    return basis[:, size > 1e-6 * size[0]]


def _tissue(coarse: Sequence[Float32Array]) -> BoolArray:
    """Return the voxels that differ from the background in more than half of the scans; all if none do."""
    counts = np.zeros(coarse[0].shape, np.int64)
    for scan in coarse:
        counts += np.abs(scan) > VISIBLE * scan.std()
    mask: BoolArray = counts * 2 > len(coarse)
    return mask if mask.any() else np.ones_like(mask)


def _standardised(coarse: Sequence[Float32Array], mask: BoolArray) -> Float32Array:
    values = np.stack([scan[mask] for scan in coarse]).astype(np.float32, copy=False)
    values -= values.mean(axis=1, keepdims=True)
    values /= np.maximum(values.std(axis=1, keepdims=True), 1e-6)
    return values


def _unit(vectors: Float32Array) -> Float32Array:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Float32Array = vectors / np.maximum(length, np.float32(1e-12))
    return scaled
