"""The anatomy every simulated brain starts from: maps derived once from the ICBM152 templates in nilearn.

Nothing is downloaded: nilearn carries the T1, grey- and white-matter templates at 1 mm. From them follow
tissue fractions, the ventricular system, periventricular white matter, the hippocampi, and two families of
motions in template space: ventricular growth as the flow of its outward normals (a flow cannot fold), and
contraction of the hippocampi. The maps are kept at 2 mm, the motions at 4 mm, in one cached file.
"""

import hashlib
import os
import tempfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from privoxel.arrays import BoolArray, Float32Array, FloatArray
from privoxel.cohort.cachefolder import cache_folder
from privoxel.cohort.lattice import Lattice

_VERSION = 4
_TEMPLATE = Lattice((-98.0, -134.0, -72.0), 1.0, (197, 233, 189))
MAP_LATTICE = Lattice((-98.0, -134.0, -72.0), 2.0, (99, 117, 95))
FIELD_LATTICE = Lattice((-98.0, -134.0, -72.0), 4.0, (50, 59, 48))
# Outward travel of the ventricular wall before attenuation, mm. The flow decays over 14 mm, so that the
# last knot moves the wall by 14 ln(1 + 9 / 14) = 7 mm: more would press the caudate into the putamen.
GROWTH_MM = np.arange(-5.0, 9.5, 1.0)
_REACH_MM = 14.0
_VENTRICLE_SEEDS = (
    (-10, 14, 10), (10, 14, 10), (-8, 4, 18), (8, 4, 18), (-24, -40, 12), (24, -40, 12), (-14, 24, 4),
    (14, 24, 4), (0, -14, 4),
)  # fmt: skip
_HIPPOCAMPI = ((-26.0, -24.0, -14.0), (26.0, -24.0, -14.0))
_LONG_AXIS = np.array([0.0, -0.848, 0.530])
_HALF_LENGTH_MM, _HALF_WIDTH_MM = 18.0, 7.0


@final
@dataclass(frozen=True)
class AnatomyMaps:
    """Maps of one average brain; nobody may write to them.

    ``tissue`` holds, on ``MAP_LATTICE``, the fractions of grey and white matter, the brain mask, the T1
    texture that tissue does not explain, and the periventricular zone. ``landmarks`` holds there the
    hippocampi and the ventricles. ``growth`` holds on ``FIELD_LATTICE`` the pull-back displacement in mm of
    ventricular growth at each of ``GROWTH_MM``: (knots, 3, x, y, z), and ``log_volume`` (landmarks, knots)
    the logarithm of the volumes each knot gives, relative to the template. ``contraction`` (3, x, y, z) is
    the displacement per unit of hippocampal contraction; ``cortex`` (x, y, z) is 1 where the sulci are and 0
    around the ventricles. ``digest`` identifies all of it.
    """

    tissue: Float32Array
    landmarks: Float32Array
    growth: Float32Array
    log_volume: FloatArray
    contraction: Float32Array
    cortex: Float32Array
    digest: str


class _Templates(NamedTuple):
    t1: Float32Array
    grey: Float32Array
    white: Float32Array


@lru_cache(maxsize=1)
def load_maps() -> AnatomyMaps:
    """Return the anatomy, from the cache folder or, the first time, from nilearn's templates (some 20 s).

    Processes that race each write a whole file; a file that cannot be read is derived again.
    """
    file = cache_folder() / f"anatomy-{_make()}.npz"
    arrays = _read(file)
    if arrays is None:
        arrays = _derive(_load_templates())
        _write(file, arrays)
    return _frozen(arrays)


def _make() -> str:
    """Return a digest of everything the maps follow from: this code's version and the packages it uses."""
    made_by = [f"{name} {version(name)}" for name in ("nilearn", "scipy", "numpy", "torch")]
    return hashlib.sha256("; ".join([f"anatomy {_VERSION}", *made_by]).encode()).hexdigest()[:16]


def _load_templates() -> _Templates:
    import nilearn.datasets as nilearn  # noqa: PLC0415 - takes two seconds

    loaders = (nilearn.load_mni152_template, nilearn.load_mni152_gm_template, nilearn.load_mni152_wm_template)
    return _Templates(*(load(resolution=1).get_fdata(dtype=np.float32) for load in loaders))


_SHAPES = {
    "tissue": (5, *MAP_LATTICE.shape),
    "landmarks": (2, *MAP_LATTICE.shape),
    "growth": (len(GROWTH_MM), 3, *FIELD_LATTICE.shape),
    "log_volume": (2, len(GROWTH_MM)),
    "contraction": (3, *FIELD_LATTICE.shape),
    "cortex": FIELD_LATTICE.shape,
}


def _read(file: Path) -> dict[str, npt.NDArray[np.float16]] | None:
    """Return the arrays of a cache file, or nothing if it is missing, torn or of another make."""
    try:
        with file.open("rb") as stream, np.load(stream) as archive:
            arrays = {name: archive[name] for name in _SHAPES}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = all(arrays[name].shape == shape for name, shape in _SHAPES.items())
    return arrays if fits else None


def _write(file: Path, arrays: dict[str, npt.NDArray[np.float16]]) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.stem, suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _frozen(arrays: dict[str, npt.NDArray[np.float16]]) -> AnatomyMaps:
    digest = hashlib.sha256(b"".join(arrays[name].tobytes() for name in _SHAPES)).hexdigest()[:16]
    ready = {name: np.ascontiguousarray(arrays[name], dtype=np.float32) for name in _SHAPES}
    return AnatomyMaps(
        tissue=ready["tissue"],
        landmarks=ready["landmarks"],
        growth=ready["growth"],
        log_volume=ready["log_volume"].astype(np.float64),
        contraction=ready["contraction"],
        cortex=ready["cortex"],
        digest=digest,
    )


def _derive(templates: _Templates) -> dict[str, npt.NDArray[np.float16]]:
    """Return all maps in half precision, as cached: those read again are those derived."""
    brain = ndimage.binary_fill_holes(templates.t1 > 0.05)
    grey, white, fluid = _fractions(templates, brain)
    ventricles = _ventricles(fluid)
    distance = _distance_mm(ventricles)
    texture = (templates.t1 - (0.66 * grey + 0.88 * white + 0.32 * fluid)) * brain
    tissue = [grey, white, brain, texture, _periventricular(distance, white)]
    coarse = np.stack([_at_2_mm(m) for m in tissue])
    hippocampi = _hippocampi(MAP_LATTICE.points()).reshape(MAP_LATTICE.shape) * coarse[0]
    landmarks = np.stack([hippocampi, _at_2_mm(ventricles)])
    growth = _growth(distance)
    arrays = {
        "tissue": coarse,
        "landmarks": landmarks,
        "growth": growth,
        "log_volume": _log_volumes(growth, landmarks),
        "contraction": _contraction(),
        "cortex": _smoothstep((distance[::4, ::4, ::4] - np.float32(5)) / np.float32(8)),
    }
    return {name: array.astype(np.float16) for name, array in arrays.items()}


def _fractions(templates: _Templates, brain: BoolArray) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Return grey matter, white matter and fluid as shares of each voxel; they sum to 1 in the brain."""
    fluid = np.clip(1 - templates.grey - templates.white, 0, 1)
    share = brain / (templates.grey + templates.white + fluid + 1e-6)
    return templates.grey * share, templates.white * share, fluid * share


def _ventricles(fluid: Float32Array) -> BoolArray:
    """Return the fluid connected to seeds in the lateral and third ventricles, in a box around them."""
    box = np.zeros(_TEMPLATE.shape, dtype=bool)
    x, y, z = (_TEMPLATE.axis(k) for k in range(3))
    box[np.ix_(abs(x) < 42, (y > -62) & (y < 42), (z > -18) & (z < 36))] = True
    labels, _ = ndimage.label((fluid > 0.6) & box)
    sizes = np.bincount(labels.ravel())
    found: set[int] = set()
    for seed in _VENTRICLE_SEEDS:
        at = np.round(np.subtract(seed, _TEMPLATE.origin_mm)).astype(int)
        near = labels[tuple(slice(k - 3, k + 4) for k in at)]
        found |= set(np.unique(near[near > 0]).tolist())
    # the cisterns outside the brain touch the box too; they form one component of hundreds of millilitres
    return np.isin(labels, [k for k in found if sizes[k] < 60_000])


def _distance_mm(inside: BoolArray) -> Float32Array:
    """Return the signed distance to the surface of ``inside``, negative within."""
    outer = ndimage.distance_transform_edt(~inside)
    return (outer - ndimage.distance_transform_edt(inside)).astype(np.float32)


def _periventricular(distance: Float32Array, white: Float32Array) -> Float32Array:
    """Return where lesions prefer to sit: caps around the ventricles, then deep white matter."""
    outside = np.clip(distance, 0, None)
    caps = np.exp(-(((outside - 5) / 6) ** 2))
    deep = np.exp(-np.clip(outside - 5, 0, None) / 15)
    above = _TEMPLATE.axis(2) > -10
    return ((0.7 * caps + 0.3 * deep) * (distance > 0) * (white > 0.6) * white * above).astype(np.float32)


def _hippocampi(points: Float32Array) -> Float32Array:
    """Return the soft share of both hippocampi at ``points``: two tilted ellipsoids."""
    radius = np.minimum(*(_hippocampal_radius(points, centre) for centre in _HIPPOCAMPI))
    return (1 / (1 + np.exp(np.clip(10 * (radius - 1), -20, 20)))).astype(np.float32)


def _hippocampal_radius(points: Float32Array, centre: tuple[float, float, float]) -> Float32Array:
    """Return the distance from ``centre`` in units of the ellipsoid's surface."""
    away = points - np.array(centre, dtype=np.float32)[:, None]
    along = np.tensordot(_LONG_AXIS.astype(np.float32), away, axes=1)
    across = (away**2).sum(axis=0) - along**2
    squared = (along / _HALF_LENGTH_MM) ** 2 + across.clip(min=0) / _HALF_WIDTH_MM**2
    return np.sqrt(squared).astype(np.float32)


def _nearness(points: Float32Array, centre: tuple[float, float, float], *, power: int) -> Float32Array:
    """Return 1 in the hippocampus around ``centre``, falling smoothly to 0 at twice its size."""
    return np.exp(-((np.minimum(_hippocampal_radius(points, centre), 3) / 1.75) ** power))


def _hippocampal_weight(points: Float32Array) -> Float32Array:
    return np.maximum(*(_nearness(points, centre, power=4) for centre in _HIPPOCAMPI))


def _contraction() -> Float32Array:
    """Return the pull-back displacement, mm per unit: points within each hippocampus sample farther out."""
    points = FIELD_LATTICE.points()
    field = np.zeros_like(points)
    for centre in _HIPPOCAMPI:
        weight = _nearness(points, centre, power=6)
        field += weight * (points - np.array(centre, dtype=np.float32)[:, None])
    return field.reshape(3, *FIELD_LATTICE.shape)


def _growth(distance: Float32Array) -> Float32Array:
    """Return the displacements of ventricular growth, one per knot.

    The wall moves with velocity ``n exp(-d/14)``, n the smoothed outward normal; following it backwards for
    τ mm gives where the grown brain samples the template. Flows compose and invert, so no knot can fold.
    """
    velocity = _outward_velocity(distance)
    start = FIELD_LATTICE.points()
    downwards = _trajectory(velocity, start, GROWTH_MM[GROWTH_MM <= 0][::-1])
    upwards = _trajectory(velocity, start, GROWTH_MM[GROWTH_MM >= 0])
    displaced = [*downwards[:0:-1], *upwards]
    return np.stack([(p - start).reshape(3, *FIELD_LATTICE.shape) for p in displaced])


def _outward_velocity(distance: Float32Array) -> Float32Array:
    smooth = ndimage.gaussian_filter(distance, 2.5)
    normals = np.stack(np.gradient(smooth)) * np.exp(-np.clip(distance, 0, None) / _REACH_MM)
    # the hippocampi stay: outside a thin horn the flow spreads faster than it decays, and would enlarge them
    moves = 1 - _hippocampal_weight(MAP_LATTICE.points()).reshape(MAP_LATTICE.shape)
    return np.stack([_at_2_mm(n, sigma=1.7) * moves for n in normals])


def _trajectory(velocity: Float32Array, start: Float32Array, knots: FloatArray) -> list[Float32Array]:
    """Return the points reached at each of ``knots`` mm against the flow, by midpoint steps of ¼ mm."""
    reached, position, substeps = [start], start, 4
    for width in np.diff(knots):
        step = np.float32(-width / substeps)
        for _ in range(substeps):
            middle = position + 0.5 * step * MAP_LATTICE.sample(velocity, position)
            position = position + step * MAP_LATTICE.sample(velocity, middle)
        reached.append(position)
    return reached


def _log_volumes(growth: Float32Array, landmarks: Float32Array) -> FloatArray:
    """Return the log volumes (landmarks, knots) that growth gives, relative to the template's."""
    points = MAP_LATTICE.points()
    sources = (points + FIELD_LATTICE.sample(field, points) for field in growth)
    volumes = [MAP_LATTICE.sample(landmarks, source).sum(axis=1, dtype=np.float64) for source in sources]
    return np.log(np.array(volumes) / landmarks.sum(axis=(1, 2, 3), dtype=np.float64)).T


def _smoothstep(ramp: Float32Array) -> Float32Array:
    inside = np.clip(ramp, 0, 1)
    return inside * inside * (3 - 2 * inside)


def _at_2_mm(array: npt.NDArray[np.generic], *, sigma: float = 0.8) -> Float32Array:
    """Return a 1 mm map on the 2 mm lattice, low-passed by a Gaussian of ``sigma`` mm against aliasing."""
    smooth = ndimage.gaussian_filter(array.astype(np.float32), sigma)
    return np.ascontiguousarray(smooth[::2, ::2, ::2])
