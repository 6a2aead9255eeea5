"""Scores that show where preparing went wrong, and which of them call for a look.

The bounds were set on 268 prepared scans of 262 adults (19 to 82 years, two studies): inside the template's
brain their intensities correlated with the template's at 0.44 or more, and their masks overlapped with its
brain by a Dice coefficient of 0.90 or more (1st percentiles). A scan lost in registration lies far below.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from privoxel.arrays import BoolArray, Float32Array, FloatArray
from privoxel.prepare.geometry import stretches
from privoxel.prepare.template import Template

LEAST_FOR_OUTLIERS = 10
OUTLIER_SDS = 4.0
MAD_TO_SD = 1.4826


class Bound(NamedTuple):
    """What a score may be, and the words for the page."""

    low: float
    high: float
    title: str
    meaning: str


BOUNDS: Mapping[str, Bound] = {
    "correlation": Bound(0.40, 1.0, "correlation", "with the template's intensities, inside its brain"),
    "overlap": Bound(0.87, 1.0, "overlap", "Dice coefficient of the mask and the template's brain"),
    "volume_ml": Bound(900.0, 2300.0, "volume, ml", "of the brain mask in the scan's own voxels"),
    "least_stretch": Bound(0.70, 1.30, "least stretch", "of the affine map, template to scan"),
    "most_stretch": Bound(0.70, 1.30, "most stretch", "of the affine map, template to scan"),
    "at_edge": Bound(0.0, 0.002, "at the edge", "share of the brain on the outer faces of the scan"),
}
RELATIVE = ("correlation", "overlap")
"""Scores that are also compared with those of the other scans."""


def dice(first: BoolArray, second: BoolArray) -> float:
    """Return the Dice coefficient of two masks: 1 where they agree, 0 where they do not meet."""
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else 0.0


def placed_scores(volume: Float32Array, mask: BoolArray, template: Template) -> dict[str, float]:
    """Return how a prepared volume and its mask fit the template on the same grid."""
    inside = template.mask
    spread = float(volume[inside].std())
    fit = float(np.corrcoef(volume[inside], template.brain[inside])[0, 1]) if spread > 0 else 0.0
    return {"correlation": fit, "overlap": dice(mask, inside)}


def scan_scores(mask: BoolArray, affine: FloatArray, to_scan: FloatArray) -> dict[str, float]:
    """Return what the mask in the scan's own voxels, and the map to them, say."""
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0
    inner = mask[1:-1, 1:-1, 1:-1]
    count = int(mask.sum())
    factors = stretches(to_scan)
    return {
        "volume_ml": count * voxel_ml,
        "least_stretch": float(factors[-1]),
        "most_stretch": float(factors[0]),
        "at_edge": (count - int(inner.sum())) / count if count else 1.0,
    }


def faults(scores: Mapping[str, float]) -> list[str]:
    """Return one phrase for each score outside its bounds."""
    return [
        f"{bound.title} {shown(scores[name])}, expected {shown(bound.low)} to {shown(bound.high)}"
        for name, bound in BOUNDS.items()
        if not bound.low <= scores[name] <= bound.high
    ]


def outliers(scores: Sequence[Mapping[str, float]]) -> list[list[str]]:
    """Return for each scan one phrase for each score far below that of the other scans.

    Far is more than 4 SD below the median, the SD from the median absolute deviation. Fewer than 10 scans
    are not compared.
    """
    phrases: list[list[str]] = [[] for _ in scores]
    if len(scores) < LEAST_FOR_OUTLIERS:
        return phrases
    for name in RELATIVE:
        values = np.array([one[name] for one in scores])
        middle = float(np.median(values))
        spread = MAD_TO_SD * float(np.median(np.abs(values - middle)))
        for phrase, value in zip(phrases, values, strict=True):
            if value < middle - OUTLIER_SDS * spread - 1e-9:
                phrase.append(f"{BOUNDS[name].title} {shown(value)}, far below the median of {shown(middle)}")
    return phrases


def shown(value: float) -> str:
    """Return a score as the page shows it."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
