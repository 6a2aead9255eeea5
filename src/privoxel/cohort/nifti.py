"""NIfTI files as volumes on a grid: what a header promises, and what the voxels then hold."""

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import nibabel as nib
import numpy as np

from privoxel.arrays import Float32Array, FloatArray
from privoxel.cohort.base import Cohort, Grid
from privoxel.cohort.preprocess import Normalise, Oriented, VolumeError, canonical, coverage, to_grid, z_score
from privoxel.errors import Problem, ProblemsError

SUFFIXES = (".nii", ".nii.gz")
STANDARD_SPACES = (3, 4)
"""Codes of Talairach and MNI152 space."""

SPACES = "T1w images as given, space "
"""How the history of a cohort of files begins; the spaces that their names state follow."""

MAX_VOXELS = 2**28
"""A head in 0.4 mm voxels; more is a damaged header, or would not fit the memory."""

LARGEST_OFFSET = 16 * 2**20
"""Bytes that may stand before the voxels: header extensions."""

BOMB_BYTES = 2**28
BOMB_RATIO = 250
"""A file whose voxels take more bytes than the first, and more times its size than the second, is no scan."""

DEFLATE_RATIO = 1032
"""Bytes that one compressed byte can stand for at most."""

LARGEST_CONFLICT_MM = 2.0
LEAST_COVERAGE = 0.75
HEAD_MM = (100.0, 600.0)
"""Least and largest extent of an image that can hold a whole head."""
MAX_HEAD_VOXELS = 200_000_000

UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    MemoryError,
    RuntimeError,
    KeyError,
    struct.error,
    zlib.error,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
)


def header_fault(path: Path, grid: Grid) -> VolumeError | None:
    """Return what the header alone shows to be unusable, or None; no voxel is read."""
    try:
        with np.errstate(all="ignore"):  # damaged numbers are looked for, not warned of
            _check_header(path, _open(path), grid)
    except VolumeError as fault:
        return fault
    return None


def read_volume(path: Path, grid: Grid, normalise: Normalise) -> Float32Array:
    """Return the file's volume, preprocessed, on ``grid``: float32.

    Raises:
        VolumeError: if the header or the voxels cannot be used.
    """
    with np.errstate(all="ignore"):
        image = _open(path)
        _check_header(path, image, grid)
        array, affine = canonical(*_read(image))
        volume = z_score(to_grid(array, affine, grid), normalise)
    if not np.isfinite(volume).all():
        raise VolumeError("has values too large to be standardised", "Save the voxels in a smaller range")
    return volume


def head_fault(path: Path) -> VolumeError | None:
    """Return why the header alone shows that the file is no raw scan of a head, or None; no voxel is read."""
    try:
        _check_head(path, _open(path))
    except VolumeError as fault:
        return fault
    return None


def read_head(path: Path) -> tuple[Oriented, FloatArray]:
    """Return a raw scan, wherever it lies in space: canonical, and the affine of the voxels as stored.

    Raises:
        VolumeError: if the header or the voxels cannot be used.
    """
    image = _open(path)
    _check_head(path, image)
    stored = _read(image)
    return canonical(*stored), stored.affine


def _check_head(path: Path, image: Any) -> None:
    _check_form(path, image)
    if np.prod(image.shape[:3], dtype=np.float64) > MAX_HEAD_VOXELS:
        raise VolumeError(f"has {_times(image.shape[:3])} voxels", "Resample it to voxels of 0.5 mm or more")
    extent = np.linalg.norm(image.affine[:3, :3], axis=0) * image.shape[:3]
    if extent.min() < HEAD_MM[0] or extent.max() > HEAD_MM[1]:
        size = "×".join(f"{mm:.0f}" for mm in extent)
        raise VolumeError(
            f"measures {size} mm, not {HEAD_MM[0]:.0f} to {HEAD_MM[1]:.0f} along each axis",
            "Give a whole head with its voxel size in mm",
        )
    header: Any = image.header
    if header["sform_code"] > 0 and header["qform_code"] > 0:
        hands = [np.linalg.det(form[:3, :3]) for form in (header.get_sform(), _qform(header))]
        if hands[0] * hands[1] < 0:
            raise VolumeError(
                "has an sform and a qform that disagree on which side is left",
                "Find out which is right, and write it to both",
            )


def _open(path: Path) -> Any:
    if not path.name.endswith(SUFFIXES):
        raise VolumeError("is not a NIfTI file", "Give files that end in .nii or .nii.gz")
    if path.is_symlink() and not path.exists():
        raise VolumeError(
            "is a link to a file that is not here", "Fetch its content first (datalad get, git annex get)"
        )
    if not path.is_file():
        raise VolumeError("is not there", "Correct the path, or remove the row")
    try:
        _check_offset(path)
        return nib.load(path)
    except VolumeError:
        raise
    except UNREADABLE as error:
        raise _unreadable(error) from error


def _check_offset(path: Path) -> None:
    """Look at where a header says the voxels begin before anything is read up to there."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        start = stream.read(540)
    if len(start) < 348:
        raise VolumeError("is cut short", "Copy or create the file again")
    for order in "<>":
        (size,) = struct.unpack_from(f"{order}i", start)
        if size == 348:
            (offset,) = struct.unpack_from(f"{order}f", start, 108)
        elif size == 540 and len(start) == 540:
            (offset,) = struct.unpack_from(f"{order}q", start, 168)
        else:
            continue
        if not 0 <= offset <= LARGEST_OFFSET:
            raise VolumeError(
                "says that its voxels begin at an impossible place",
                "Create the file again; its header is damaged",
            )


def _unreadable(error: BaseException) -> VolumeError:
    reason = type(error).__name__
    return VolumeError(f"cannot be read ({reason})", "Copy or create the file again; it may be cut short")


def _check_header(path: Path, image: Any, grid: Grid) -> None:
    _check_form(path, image)
    _check_frames(image)
    share = coverage(image.shape[:3], image.affine, grid)
    if share < LEAST_COVERAGE:
        raise VolumeError(
            f"covers {share:.0%} of the brain's place in MNI152 space, not {LEAST_COVERAGE:.0%} or more",
            "Register it to MNI152, and keep the affine of the result",
        )


def _check_form(path: Path, image: Any) -> None:
    """Check everything that does not depend on where the image lies."""
    if not _is_nifti(image):
        raise VolumeError("is not a NIfTI file", "Convert it to .nii.gz")
    shape = image.shape
    if len(shape) < 3 or any(n > 1 for n in shape[3:]):
        raise VolumeError(f"has {len(shape)} dimensions, not 3", "Keep one volume per file")
    if min(shape[:3]) < 2:
        raise VolumeError(f"has shape {_times(shape[:3])}", "Give a volume, not a slice")
    if np.prod(shape, dtype=np.float64) > MAX_VOXELS:
        raise VolumeError(f"claims {_times(shape)} voxels", "Create the file again; its header is damaged")
    if image.get_data_dtype().kind not in "iuf":
        raise VolumeError(f"holds {image.get_data_dtype()} values", "Save one real number per voxel")
    if image.header["sform_code"] == 0 and image.header["qform_code"] == 0:
        raise VolumeError(
            "does not say how it lies in space (sform and qform codes are 0)", "Register it to MNI152 again"
        )
    affine = image.affine
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise VolumeError("has no usable affine", "Register it to MNI152 again, or repair sform and qform")
    _check_length(path, image)


def _is_nifti(image: Any) -> bool:
    return isinstance(image, nib.Nifti1Pair)


def _check_frames(image: Any) -> None:
    """Refuse a file whose two matrices say different things of the same space.

    Where the sform alone claims a standard space and the qform the scanner's, each has its own meaning, and
    the sform is read (NIfTI-1 standard, method 3).
    """
    header: Any = image.header
    if header["sform_code"] <= 0 or header["qform_code"] <= 0:
        return
    sform, qform = header.get_sform(), _qform(header)
    standard = header["sform_code"] in STANDARD_SPACES and header["qform_code"] not in STANDARD_SPACES
    if standard or not (np.isfinite(sform).all() and np.isfinite(qform).all()):
        return
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in image.shape[:3]], [1])).reshape(4, -1)
    apart = float(np.linalg.norm((sform - qform)[:3] @ corners, axis=0).max())
    if apart > LARGEST_CONFLICT_MM:
        raise VolumeError(
            f"has an sform and a qform that disagree by up to {apart:.3g} mm",
            "Keep the right one: set the code of the other to 0, or copy one to the other",
        )


def _qform(header: Any) -> FloatArray:
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except UNREADABLE as error:
        raise VolumeError("has a qform that is no rotation", "Set qform_code to 0, or repair it") from error


def _check_length(path: Path, image: Any) -> None:
    """Find a file too short for what its header claims, or too long for its size, without reading it."""
    size = path.stat().st_size
    needed = image.dataobj.offset + int(np.prod(image.shape)) * image.get_data_dtype().itemsize
    is_plain = path.suffix == ".nii"
    if size * (1 if is_plain else DEFLATE_RATIO) < needed:
        raise VolumeError("is cut short", "Copy or create the file again")
    if not is_plain and needed > BOMB_BYTES and needed > BOMB_RATIO * size:
        raise VolumeError(
            f"unpacks to {needed / 1e9:.1f} GB from {size / 1e6:.1f} MB, which no scan does",
            "Create the file again, cropped to the head",
        )


def _read(image: Any) -> Oriented:
    try:
        array = np.asarray(image.dataobj, dtype=np.float32).reshape(image.shape[:3])
    except UNREADABLE as error:
        raise _unreadable(error) from error
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise VolumeError(
            f"has {bad} voxels that are not finite", "Replace NaN and infinity by the background"
        )
    if array.min() == array.max():
        raise VolumeError("is constant", "Check that the file holds a brain")
    return Oriented(array, image.affine)


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


@final
@dataclass(frozen=True)
class NiftiSource:
    """Volumes read from NIfTI files when asked for.

    ``paths`` are absolute; ``places`` the same files as messages name them (relative to the cohort).
    """

    paths: tuple[str, ...]
    places: tuple[str, ...]
    grid: Grid
    normalise: Normalise = "all"

    def __len__(self) -> int:
        return len(self.paths)

    def volume(self, row: int) -> Float32Array:
        """Return the preprocessed volume of file ``row``.

        Raises:
            ProblemsError: if the file cannot be used (one problem, naming it).
        """
        try:
            return read_volume(Path(self.paths[row]), self.grid, self.normalise)
        except VolumeError as fault:
            problem = Problem(self.places[row], fault.what, fault.remedy)
            raise ProblemsError("A scan cannot be used", [problem]) from fault


def place_of(cohort: Cohort, row: int) -> str:
    """Return how messages name scan ``row``: its file where the cohort reads files, else its id."""
    source = cohort.source
    return source.places[row] if isinstance(source, NiftiSource) else str(cohort.covariates.scans[row])
