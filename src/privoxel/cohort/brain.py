"""One simulated brain: a participant's shape on a fixed lattice, and its image on any grid.

A voxel at x (scanner) shows the participant's anatomy at y = pose(x), which samples the template at
p = y + shape(y): residual scale and smooth individual deformation, then ventricular growth and hippocampal
contraction in template space. Fractions of tissue found there age (sulci open, white matter thins), get the
site's signals, lesions, bias field and Rician noise. Only voxels near the brain are ever computed.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from privoxel.arrays import Float32Array, FloatArray, IntArray
from privoxel.cohort.anatomy import FIELD_LATTICE, GROWTH_MM, MAP_LATTICE, AnatomyMaps, load_maps
from privoxel.cohort.base import Grid
from privoxel.cohort.deformation import random_fields
from privoxel.cohort.demographics import Demographics, Stream, stream
from privoxel.cohort.effects import Ageing, Individuality, SimulatorConfig, Site
from privoxel.cohort.lattice import Lattice

_CENTRE_MM = np.array([0.0, -18.0, 10.0], dtype=np.float32)
_MARGIN_MM = 8.0
_SIGNAL_UNIT = 1000.0


class Tissue(NamedTuple):
    """Fractions per voxel near the brain, each (voxels,); ``mask`` is the soft brain mask."""

    grey: Float32Array
    white: Float32Array
    fluid: Float32Array
    mask: Float32Array
    texture: Float32Array
    lesions: Float32Array


class Domain(NamedTuple):
    """The voxels of one grid that may hold brain, and the template low-passed for their size."""

    grid: Grid
    voxels: IntArray
    points: Float32Array
    tissue: Float32Array
    landmarks: Float32Array

    def volume(self, values: Float32Array) -> Float32Array:
        """Return ``values`` (voxels,) on the whole grid, zero elsewhere."""
        out = np.zeros(self.grid.shape, dtype=np.float32)
        out.ravel()[self.voxels] = values
        return out


@lru_cache(maxsize=4)
def domain(resolution_mm: float) -> Domain:
    """Return the voxels to compute at ``resolution_mm``."""
    maps = load_maps()
    grid = Grid.mni(resolution_mm)
    points = Lattice(grid.origin_mm, grid.voxel_mm, grid.shape).points()
    voxels = np.flatnonzero(_away_from_brain(points) < _MARGIN_MM)
    low_passed = [_low_passed(m, resolution_mm) for m in (maps.tissue, maps.landmarks)]
    return Domain(grid, voxels, np.ascontiguousarray(points[:, voxels]), *low_passed)


def _away_from_brain(points: Float32Array) -> Float32Array:
    """Return the distance in mm of ``points`` (3, n) from the template's brain, 0 within it."""
    mask = load_maps().tissue[2] > 0.1
    away = ndimage.distance_transform_edt(~mask, sampling=MAP_LATTICE.spacing_mm).astype(np.float32)
    return MAP_LATTICE.sample(away[None], points)[0]


def _low_passed(maps: Float32Array, resolution_mm: float) -> Float32Array:
    """Return ``maps`` blurred from their SD of 0.8 mm to one of 0.35 voxels of ``resolution_mm``."""
    missing = (0.35 * resolution_mm) ** 2 - 0.8**2
    if missing <= 0:
        return maps
    sigma = np.sqrt(missing) / MAP_LATTICE.spacing_mm
    return np.stack([ndimage.gaussian_filter(m, sigma, truncate=3.0) for m in maps])


class _Inner(NamedTuple):
    """The points of ``FIELD_LATTICE`` that can move with age: their flat indices and (3, n) positions."""

    indices: IntArray
    points: Float32Array


@lru_cache(maxsize=1)
def _inner() -> _Inner:
    points = FIELD_LATTICE.points()
    indices = np.flatnonzero(_away_from_brain(points) < 4.0)
    return _Inner(indices, np.ascontiguousarray(points[:, indices]))


def shape(config: SimulatorConfig, who: Demographics) -> Float32Array:
    """Return one participant's fields on ``FIELD_LATTICE``: (5, x, y, z).

    They are the same for every session and resolution. Channels: pull-back displacement in mm (three), log
    odds of fluid against cortex, lesion pattern.
    """
    rng = stream(config, who.participant, Stream.SHAPE)
    individual = config.individuality
    scale = 1 + individual.scale * rng.standard_normal(3) + 0.004 * (who.sex == "M")
    fields = random_fields(rng, _spreads(individual))
    for k in range(3):
        stretch = (FIELD_LATTICE.axis(k) - _CENTRE_MM[k]) * np.float32(1 / scale[k] - 1)
        fields[k] += stretch.reshape([-1 if axis == k else 1 for axis in range(3)])
    inner, flat = _inner(), fields.reshape(5, -1)
    individual_fields = flat[:, inner.indices]
    moved = inner.points + individual_fields[:3]
    motion = FIELD_LATTICE.sample(_motion(load_maps(), config.ageing, who), moved)
    individual_fields[:3] += motion[:3]
    individual_fields[3] += np.float32(sulcal_log_odds(config.ageing, who)) * _front(moved)
    individual_fields[3] *= motion[3]
    flat[:, inner.indices] = individual_fields
    return fields


def _spreads(individual: Individuality) -> Float32Array:
    columns = [*[individual.deformation_mm] * 3, individual.sulcal_pattern, individual.lesion_pattern]
    return (individual.strength * np.array(columns).T).astype(np.float32)


def _motion(maps: AnatomyMaps, ageing: Ageing, who: Demographics) -> Float32Array:
    """Return the displacement of ageing in template space, mm, and the weight of the cortex: (4, x, y, z)."""
    travel = ventricular_travel(maps.log_volume[1], ventricular_log_volume(ageing, who))
    # growing ventricles change the hippocampi a little; the rest of the wanted change is contraction
    shrinkage = hippocampal_log_volume(ageing, who) - float(np.interp(travel, GROWTH_MM, maps.log_volume[0]))
    knot = min(int(np.searchsorted(GROWTH_MM, travel, side="right")) - 1, len(GROWTH_MM) - 2)
    share = np.float32((travel - GROWTH_MM[knot]) / (GROWTH_MM[knot + 1] - GROWTH_MM[knot]))
    out = np.empty((4, *FIELD_LATTICE.shape), dtype=np.float32)
    np.multiply(maps.growth[knot], 1 - share, out=out[:3])
    out[:3] += share * maps.growth[knot + 1]
    out[:3] += np.float32(np.exp(-shrinkage / 3) - 1) * maps.contraction
    out[3] = maps.cortex
    return out


def ventricular_travel(log_volumes: FloatArray, wanted: float) -> float:
    """Return the travel of the ventricular wall, mm, that gives log volume ``wanted``, capped."""
    return float(np.interp(wanted, log_volumes, GROWTH_MM))


def ventricular_log_volume(ageing: Ageing, who: Demographics) -> float:
    """Return the log of the ventricular volume relative to the template's."""
    years = who.brain_age - 60
    curve = (
        ageing.ventricles_at_60 + (ageing.ventricles_per_year + ageing.ventricles_per_year2 * years) * years
    )
    return curve + ageing.ventricles_spread * who.deviations.ventricles + 0.06 * float(who.sex == "M")


def hippocampal_log_volume(ageing: Ageing, who: Demographics) -> float:
    """Return the log of the hippocampal volume relative to the template's; it contracts by at most 40 %."""
    years = who.brain_age - 60
    slope = ageing.hippocampi_after_60 if years > 0 else ageing.hippocampi_before_60
    return max(slope * years + ageing.hippocampi_spread * who.deviations.hippocampi, -0.5)


def sulcal_log_odds(ageing: Ageing, who: Demographics) -> float:
    """Return how far sulci are open: log odds of fluid against cortex, relative to the template's."""
    curve = ageing.sulci_at_60 + ageing.sulci_per_year * (who.brain_age - 60)
    return curve + ageing.sulci_spread * who.deviations.sulci


def white_matter_log_odds(ageing: Ageing, who: Demographics) -> float:
    """Return the log odds of white matter against the tissue it borders, relative to the template's."""
    years = who.brain_age - 60
    curve = (ageing.white_matter_per_year + ageing.white_matter_per_year2 * years) * years
    return curve + ageing.white_matter_spread * who.deviations.white_matter


def _front(points: Float32Array) -> Float32Array:
    """Return where sulci widen most: frontal and temporal cortex, least in the cerebellum."""
    x, y, z = points
    temporal = np.exp(-(((z + 15) / 20) ** 2)) * (np.abs(x) > 30)
    cerebellum = np.exp(-(((z + 45) / 18) ** 2)) * (y < -35)
    return (1 + 0.35 * np.tanh(y / 40) + 0.25 * temporal - 0.5 * cerebellum).astype(np.float32)


def warped(config: SimulatorConfig, who: Demographics, session: int) -> tuple[Float32Array, Float32Array]:
    """Return template positions in mm (3, voxels) and the two patterns (2, voxels) of one scan's domain."""
    rng = stream(config, who.participant, Stream.ACQUISITION, session)
    posed = _posed(config, domain(config.resolution_mm).points, rng, site_of(config, who))
    sampled = FIELD_LATTICE.sample(shape(config, who), posed)
    posed += sampled[:3]
    return posed, sampled[3:]


def site_of(config: SimulatorConfig, who: Demographics) -> Site:
    """Return the scanner of a participant."""
    return next(site for site in config.sites if site.label == who.site)


def _posed(
    config: SimulatorConfig, points: Float32Array, rng: np.random.Generator, site: Site
) -> Float32Array:
    """Return where the anatomy lies that a scan shows at ``points``."""
    angles = np.deg2rad(config.acquisition.rotation_deg) * rng.standard_normal(3)
    shift = config.acquisition.shift_mm * rng.standard_normal(3)
    away = points - _CENTRE_MM[:, None]
    if site.stretch:
        away *= 1 - np.float32(site.stretch / 80**2) * (away * away).sum(axis=0)
    rotation = _rotation(*angles).astype(np.float32)
    goal = (_CENTRE_MM + shift).astype(np.float32)
    # row by row, not as a matrix product: BLAS may sum in another order on another number of threads
    rows = zip(rotation, goal, strict=True)
    return np.stack([r[0] * away[0] + r[1] * away[1] + r[2] * away[2] + g for r, g in rows])


def _rotation(x: float, y: float, z: float) -> FloatArray:
    cx, cy, cz = np.cos([x, y, z])
    sx, sy, sz = np.sin([x, y, z])
    around_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    around_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    around_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return around_z @ around_y @ around_x


def tissue(
    config: SimulatorConfig, who: Demographics, positions: Float32Array, patterns: Float32Array
) -> Tissue:
    """Return the aged tissue at template ``positions`` given the log odds of fluid and the lesion pattern."""
    grey, white, mask, texture, zone = MAP_LATTICE.sample(domain(config.resolution_mm).tissue, positions)
    fluid = np.maximum(mask - grey - white, 0)
    fluid, grey = _shifted(fluid, grey, np.exp(patterns[0]))
    white, grey = _shifted(white, grey, np.float32(np.exp(white_matter_log_odds(config.ageing, who))))
    return Tissue(grey, white, fluid, mask, texture, _lesions(config.ageing, who, patterns[1], zone))


def _shifted(
    wins: Float32Array, loses: Float32Array, odds: Float32Array | np.float32
) -> tuple[Float32Array, Float32Array]:
    """Return both fractions after their odds were multiplied; their sum stays."""
    favoured = wins * odds
    total = wins + loses
    won = total * favoured / (favoured + loses + np.float32(1e-6))
    return won, total - won


def _lesions(ageing: Ageing, who: Demographics, pattern: Float32Array, zone: Float32Array) -> Float32Array:
    log_load = ageing.lesions_at_60 + ageing.lesions_per_year * (who.brain_age - 60)
    load = float(np.exp(log_load + ageing.lesions_spread * who.deviations.lesions))
    threshold = 2.3 - 0.9 * np.log1p(load)
    rise = 5 * (pattern - np.float32(threshold) + 1.2 * zone)
    return np.float32(min(1.5, 0.6 + load)) * zone / (1 + np.exp(-np.clip(rise, -30, 30)))


def image(config: SimulatorConfig, who: Demographics, session: int) -> Float32Array:
    """Return one scan on the grid: float32, 0 outside the brain, some 880 in white matter at unit gain."""
    voxels = domain(config.resolution_mm)
    shown = tissue(config, who, *warped(config, who, session))
    rng = stream(config, who.participant, Stream.NOISE, session)
    site = site_of(config, who)
    signal = _signal(config, who, shown, rng)
    edge = np.clip(1.4 * shown.mask - 0.2, 0, 1)
    signal *= edge * np.exp(_log_bias(config, voxels, rng, site))
    spread = config.acquisition.noise * site.noise * (2 / config.resolution_mm) ** 0.75
    noise = rng.standard_normal((2, len(signal)), dtype=np.float32) * (np.float32(spread) * edge)
    gain = _SIGNAL_UNIT * np.exp(0.1 * rng.standard_normal())
    return voxels.volume(np.float32(gain) * np.sqrt((signal + noise[0]) ** 2 + noise[1] ** 2))


def _signal(
    config: SimulatorConfig, who: Demographics, shown: Tissue, rng: np.random.Generator
) -> Float32Array:
    """Return the noiseless signal, 1 being a full one."""
    ageing, site, years = config.ageing, site_of(config, who), who.brain_age - 60
    jitter = config.acquisition.signal_jitter * rng.standard_normal(3)
    grey = site.grey + jitter[0] + ageing.contrast_grey_per_year * years
    grey += ageing.contrast_spread * who.deviations.contrast
    white = site.white + jitter[1] + ageing.contrast_white_per_year * years
    fluid = site.fluid + jitter[2]
    signal = np.float32(grey) * shown.grey + np.float32(white) * shown.white + np.float32(fluid) * shown.fluid
    return np.maximum(signal + 0.6 * shown.texture - 0.22 * shown.lesions, 0)


def _log_bias(config: SimulatorConfig, voxels: Domain, rng: np.random.Generator, site: Site) -> Float32Array:
    """Return the log of the receive field: four smooth cosines of random phase, and the site's shading."""
    size = np.float32(config.acquisition.bias / np.sqrt(2))
    waves = rng.standard_normal((4, 3)) / 60
    phases = rng.uniform(0, 2 * np.pi, 4)
    x, y, z = voxels.points
    total = np.float32(site.shading / 60) * z
    for wave, phase in zip(waves.astype(np.float32), phases.astype(np.float32), strict=True):
        total += size * np.cos(wave[0] * x + wave[1] * y + wave[2] * z + phase)
    return total
