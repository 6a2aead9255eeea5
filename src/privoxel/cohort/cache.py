"""Volumes preprocessed once, kept on disk in half precision, memory-mapped after that.

One ``.npy`` file per (cohort, grid, preprocessing), scans × x × y × z, named by a digest that holds no
participant's name. It is written under another name and renamed when complete, so that an interrupted
write never looks finished. A z-score over n voxels is at most √n, far below the largest half (65,504).
"""

import functools
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import BinaryIO, final

import numpy as np
import numpy.typing as npt

from privoxel.arrays import Float32Array, IntArray
from privoxel.cohort.base import Cohort
from privoxel.cohort.cachefolder import cache_folder
from privoxel.cohort.nifti import place_of
from privoxel.errors import Problem, ProblemsError, StoreError

FORMAT = "1"
LARGEST = 60_000.0
SPARE_BYTES = 64 * 2**20
ABANDONED_S = 24 * 3600.0

HalfArray = npt.NDArray[np.float16]
Progress = Callable[[int], None]


@final
@dataclass(frozen=True)
class CachedSource:
    """Volumes of a cache file; pickles as its path and opens the file when first read."""

    path: Path
    length: int

    def __len__(self) -> int:
        return self.length

    @functools.cached_property
    def _bits(self) -> npt.NDArray[np.uint16]:
        stored: npt.NDArray[np.uint16] = _open_stored(self.path).view(np.uint16)
        return stored

    def __reduce__(self) -> tuple[type["CachedSource"], tuple[Path, int]]:
        return CachedSource, (self.path, self.length)

    def volume(self, row: int) -> Float32Array:
        """Return the volume of scan ``row``: float32."""
        return np.take(_singles(), self._bits[row])

    def read_into(self, rows: IntArray, out: Float32Array) -> None:
        """Write the volumes of ``rows`` to ``out`` (rows, x, y, z)."""
        bits, singles = self._bits, _singles()
        for k, row in enumerate(rows):
            # every 16-bit number is a position of the table, so "clip" only skips a check
            np.take(singles, bits[row], out=out[k], mode="clip")


@functools.cache
def _singles() -> Float32Array:
    """All halves in single precision, by bit pattern: a look-up is twice as fast as NumPy's cast."""
    return np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)


def _open_stored(path: Path) -> HalfArray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"Cached volumes need a complete file, got {path}, which cannot be mapped "
            f"({type(error).__name__}). Delete it; it is made again."
        ) from error


def cache_volumes(
    cohort: Cohort,
    *,
    folder: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    skip_bad: bool = False,
) -> Cohort:
    """Return the cohort with its volumes in a memory-mapped file, which is written if it is not there.

    Cache a whole cohort and select afterwards: every selection is a cohort, and a file, of its own.

    Args:
        cohort: any cohort; one that is cached already is returned as it is.
        folder: where the file goes; by default "volumes" in the cache folder.
        workers: threads that read and preprocess; by default one per core, at most 8.
        progress: called with 1 whenever a scan is done.
        skip_bad: leave scans out whose voxels cannot be used (``problems`` grows) instead of refusing all.

    Raises:
        ProblemsError: naming every scan whose voxels cannot be used.
        StoreError: if the disk has too little room or cannot be written to.
    """
    if isinstance(cohort.source, CachedSource):
        return cohort
    target = (folder or cache_folder() / "volumes") / f"{_digest(cohort)}.npy"
    faults = _known_faults(target, cohort)
    if faults is None:
        faults = _write(target, cohort, workers=workers, progress=progress)
    if faults and not skip_bad:
        raise ProblemsError(f"Cohort {cohort.name} has volumes that cannot be used", faults.values())
    return _cached(cohort, target, faults)


def _cached(cohort: Cohort, target: Path, faults: dict[int, Problem]) -> Cohort:
    whole = replace(cohort, source=CachedSource(target, len(cohort)))
    if not faults:
        return whole
    keep = [row for row in range(len(cohort)) if row not in faults]
    if not keep:
        raise ProblemsError(f"Cohort {cohort.name} has no volume that can be used", faults.values())
    return replace(whole.select(keep), problems=(*cohort.problems, *faults.values()))


def read_checked(cohort: Cohort, row: int) -> Float32Array:
    """Return the volume of scan ``row`` after checking its shape and values.

    Raises:
        ProblemsError: if it cannot be used (naming file, fault, remedy and participant).
    """
    participant = cohort.covariates.scans[row].participant
    try:
        volume = cohort.volume(row)
    except ProblemsError as error:
        problems = [replace(problem, participant=participant) for problem in error.problems]
        raise ProblemsError("A scan cannot be used", problems) from error
    fault = _fault_in(volume, cohort.grid.shape)
    if fault:
        problem = Problem(place_of(cohort, row), fault, "Create the volume again", participant)
        raise ProblemsError("A scan cannot be used", [problem])
    return volume


def fault_of(cohort: Cohort, row: int) -> Problem | None:
    """Return what is wrong with the volume of scan ``row``, or None."""
    try:
        read_checked(cohort, row)
    except ProblemsError as error:
        return error.problems[0]
    return None


def _fault_in(volume: Float32Array, shape: tuple[int, int, int]) -> str | None:
    if volume.shape != shape:
        return f"has shape {volume.shape}, not {shape}"
    if not np.isfinite(volume).all():
        return "has voxels that are not finite"
    if volume.min() == volume.max():
        return "is constant"
    if np.abs(volume).max() > LARGEST:
        return f"has values beyond {LARGEST:g}, too large for half precision"
    return None


def _digest(cohort: Cohort) -> str:
    parts = (FORMAT, cohort.fingerprint, repr(cohort.grid), *cohort.history)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


def _rows_file(target: Path) -> Path:
    return target.with_suffix(".bad.npy")


def _known_faults(target: Path, cohort: Cohort) -> dict[int, Problem] | None:
    """Return the problems of the rows that a complete file lacks, or None if the file must be written.

    The file names rows only; what is wrong with them is found again, so that no participant is named on disk.
    """
    try:
        stored = np.load(target, mmap_mode="r", allow_pickle=False)
        bad = np.load(_rows_file(target), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if stored.shape != (len(cohort), *cohort.grid.shape) or stored.dtype != np.float16:
        return None
    faults = {int(row): fault_of(cohort, int(row)) for row in bad}
    found = {row: fault for row, fault in faults.items() if fault}
    return found if len(found) == len(bad) else None


def _write(
    target: Path, cohort: Cohort, *, workers: int | None, progress: Progress | None
) -> dict[int, Problem]:
    """Write all volumes and return the problems by row; rows with a problem stay empty."""
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_abandoned(target.parent)
        _check_room(target.parent, cohort)
        with _partial(target) as stream:
            faults = _fill_file(stream, cohort, workers=workers, progress=progress)
            with _partial(_rows_file(target)) as rows:
                np.save(rows, np.array(sorted(faults), dtype=np.int64))
    except OSError as error:
        raise StoreError(
            f"Caching needs to write {_megabytes(cached_size(cohort))} to {target.parent}, got "
            f"{error.strerror or error}. Free space there, or set PRIVOXEL_CACHE to another folder."
        ) from error
    return faults


def _fill_file(
    stream: BinaryIO, cohort: Cohort, *, workers: int | None, progress: Progress | None
) -> dict[int, Problem]:
    shape = (len(cohort), *cohort.grid.shape)
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    start, lock = stream.tell(), Lock()
    stream.truncate(start + cached_size(cohort))

    def keep(row: int) -> Problem | None:
        try:
            volume = read_checked(cohort, row).astype("<f2")
        except ProblemsError as error:
            return error.problems[0]
        with lock:
            stream.seek(start + row * volume.nbytes)
            stream.write(volume.tobytes())
        return None

    faults = {}
    with threads(workers) as pool:
        for row, fault in enumerate(pool.map(keep, range(len(cohort)))):
            if fault:
                faults[row] = fault
            if progress:
                progress(1)
    return faults


@contextmanager
def threads(workers: int | None) -> Iterator[ThreadPoolExecutor]:
    """Open a pool, by default one thread per core and at most 8.

    What has not begun is dropped when the block fails or is interrupted.
    """
    pool = ThreadPoolExecutor(max_workers=workers or min(os.cpu_count() or 1, 8))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _partial(target: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the name ``target`` once the block has ended well, and is gone otherwise."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.stem, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove what processes killed a day ago or more have left."""
    for path in folder.glob("*.partial"):
        if time.time() - path.stat().st_mtime > ABANDONED_S:
            path.unlink(missing_ok=True)


def cached_size(cohort: Cohort) -> int:
    """Return the bytes of volumes that ``cache_volumes`` writes for this cohort."""
    return len(cohort) * int(np.prod(cohort.grid.shape)) * np.dtype(np.float16).itemsize


def _check_room(folder: Path, cohort: Cohort) -> None:
    needed, free = cached_size(cohort), shutil.disk_usage(folder).free
    if needed + SPARE_BYTES > free:
        raise StoreError(
            f"Caching {cohort.name} needs {_megabytes(needed)} in {folder}, got {_megabytes(free)} free. "
            "Free space there, or set PRIVOXEL_CACHE to another folder."
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
