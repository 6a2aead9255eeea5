"""One raw scan from its file to its derivative."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np

from privoxel.arrays import BoolArray, Float32Array, FloatArray
from privoxel.cohort.base import Grid
from privoxel.cohort.nifti import read_head
from privoxel.cohort.preprocess import Oriented, VolumeError
from privoxel.executor import Finished
from privoxel.prepare import itk
from privoxel.prepare.brain import brain_mask
from privoxel.prepare.geometry import centroid
from privoxel.prepare.outputs import (
    Names,
    as_int16,
    names_of,
    transform_text,
    write_image,
    write_sidecars,
)
from privoxel.prepare.pictures import Outlined, planes, write_png
from privoxel.prepare.quality import placed_scores, scan_scores
from privoxel.prepare.resampling import as_stored, cropped, onto, within
from privoxel.prepare.settings import PrepareSettings
from privoxel.prepare.template import load_template
from privoxel.seeding import Streams
from privoxel.store import write_text

MARGIN = 8
"""Voxels kept around the brain for bias correction and registration."""


@final
@dataclass(frozen=True)
class RawScan:
    """A raw T1w file: where it is, how messages name it, and the entities of its name."""

    path: Path
    place: str
    stem: str
    participant: str


class Prepared(NamedTuple):
    """A scan prepared, in memory: the brain on the grid, its masks, and the map between the two worlds."""

    brain: Float32Array
    mask: BoolArray
    native: Oriented
    native_mask: BoolArray
    to_scan: FloatArray
    seconds: dict[str, float]


def prepare_head(head: Oriented, settings: PrepareSettings, *, seed: int) -> Prepared:
    """Return a canonical head as a brain on the settings' grid.

    Args:
        head: whole head, axes close to R, A, S.
        settings: what else the voxels depend on.
        seed: of the points at which the registration's metric is taken.

    Raises:
        VolumeError: if there is no brain, or it cannot be registered.
    """
    seconds, started = {}, time.perf_counter()

    def lap(step: str) -> None:
        nonlocal started
        seconds[step] = time.perf_counter() - started
        started += seconds[step]

    mask = brain_mask(head.array)
    lap("brain")
    box = within(mask, MARGIN)
    near, near_mask = cropped(head, box), mask[box]
    even = itk.evened(near, near_mask)
    brain = Oriented(even * near_mask, near.affine)
    lap("bias")
    template = load_template()
    centre = centroid(template.mask, template.grid.affine)
    start = np.eye(4)
    start[:3, 3] = centroid(near_mask, near.affine) - centre
    to_scan = itk.registered(template.image, brain, start, centre, seed=seed)
    lap("registration")
    share = onto(settings.grid, Oriented(near_mask.astype(np.float32), near.affine), to_scan)
    volume, placed = onto(settings.grid, brain, to_scan), share > 0.5
    if not placed.any():
        raise VolumeError("lost its brain in registration", "Look at the scan: is it a whole head?")
    lap("resampling")
    return Prepared(volume * placed, placed, head, mask, to_scan, seconds)


def prepare_scan(scan: RawScan, folder: Path, settings: PrepareSettings, keep: Finished) -> dict[str, Any]:
    """Prepare one scan, write its derivative below ``folder``, and return (and keep) its record.

    A scan that cannot be prepared has a record with a ``problem`` that is not kept; nothing of it is written.
    """
    started = time.perf_counter()
    record = {"stem": scan.stem, "participant": scan.participant, "place": scan.place}
    try:
        content = content_of(scan.path)
        head, stored = read_head(scan.path)
        seed = Streams(settings.seed).seed(f"{scan.stem}/registration") % (2**31)
        prepared = prepare_head(head, settings, seed=seed)
        scores = placed_scores(prepared.brain, prepared.mask, load_template(settings.grid)) | scan_scores(
            prepared.native_mask, head.affine, prepared.to_scan
        )
    except VolumeError as fault:
        return record | {"problem": {"what": fault.what, "remedy": fault.remedy}}
    names = names_of(scan.stem, settings.voxel_mm)
    _write(folder, names, prepared, settings.grid, stored)
    seconds = prepared.seconds | {"all": time.perf_counter() - started}
    facts = {
        "voxel_mm": settings.voxel_mm,
        "scores": {name: round(value, 6) for name, value in scores.items()},
        "seconds": {step: round(value, 2) for step, value in seconds.items()},
        "seed": settings.seed,
    }
    write_sidecars(folder, names, scan.place, facts)
    sizes = {path.as_posix(): (folder / path).stat().st_size for path in names}
    return keep.put(scan.stem, record | facts | {"content": content, "files": sizes})


def content_of(path: Path) -> str:
    """Return a digest of a file's bytes, "" if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def _write(folder: Path, names: Names, prepared: Prepared, grid: Grid, stored: FloatArray) -> None:
    """Write the images, the map and the pictures of a scan."""
    affine = grid.affine
    write_image(folder / names.brain, as_int16(prepared.brain, prepared.mask), affine, space="mni")
    write_image(folder / names.mask, prepared.mask.astype(np.uint8), affine, space="mni")
    native = as_stored(prepared.native_mask.astype(np.uint8), stored)
    write_image(folder / names.native_mask, native, stored, space="scanner")
    write_text(folder / names.transform, transform_text(prepared.to_scan))
    head, template = prepared.native, load_template(grid)
    before = Outlined(head, prepared.native_mask, head.affine)
    through = centroid(prepared.native_mask, head.affine)
    write_png(folder / names.before, planes(before, through, _white(head.array, prepared.native_mask)))
    after = Outlined(Oriented(prepared.brain, affine), template.mask, affine)
    middle = centroid(template.mask, affine)
    write_png(folder / names.after, planes(after, middle, _white(prepared.brain, prepared.mask)))


def _white(array: Float32Array, mask: BoolArray) -> float:
    return float(np.percentile(array[mask], 99.5))
