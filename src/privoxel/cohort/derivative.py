"""Write a simulated cohort as a BIDS derivative that any reader of BIDS, this package's included, can load.

The files hold intensities, not z-scores, as int16 NIfTI in MNI152 space; equal cohorts give equal bytes.
"""

import csv
import gzip
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from privoxel.arrays import Float32Array
from privoxel.cohort.base import Cohort, Grid, ScanId
from privoxel.errors import CohortError, StoreError
from privoxel.store import atomic_path, write_json, write_text
from privoxel.version import __version__

SPACE = "MNI152NLin2009aSym"
_BIDS_VERSION = "1.9.0"
_PARTICIPANT_COLUMNS = {
    "participant_id": {"Description": "Number of a simulated person"},
    "age": {"Description": "Age at the scan", "Units": "year"},
    "sex": {"Description": "Simulated sex", "Levels": {"F": "female", "M": "male"}},
    "site": {"Description": "Simulated scanner"},
}


@runtime_checkable
class IntensitySource(Protocol):
    """A source that also gives volumes as the scanner did: positive in the brain, 0 outside."""

    def intensity(self, row: int) -> Float32Array:
        """Return scan ``row`` before normalisation."""
        ...


def write_derivative(
    cohort: Cohort, folder: Path, *, progress: Callable[[int], object] | None = None, overwrite: bool = False
) -> None:
    """Write ``cohort`` below ``folder``; the participants' table comes last, when all images are there.

    Args:
        cohort: simulated, whole (not a selection).
        folder: new or empty.
        progress: called with 1 after each scan.
        overwrite: replace what an earlier call wrote there.

    Raises:
        CohortError: if the cohort has no intensities.
        StoreError: if the folder is in use.
    """
    source = cohort.source
    if not isinstance(source, IntensitySource):
        raise CohortError(
            f"write_derivative needs a cohort with intensities, got {cohort.name} from "
            f"{type(source).__name__}. Pass what simulate_cohort returns, before any select."
        )
    folder = Path(folder)
    _claim(folder, overwrite=overwrite)
    _write_description(cohort, folder)
    for row, scan in enumerate(cohort.covariates.scans):
        _write_image(folder / image_path(scan, cohort.grid), source.intensity(row), cohort.grid)
        if progress is not None:
            progress(1)
    _write_participants(cohort, folder)


def image_path(scan: ScanId, grid: Grid) -> Path:
    """Return where a scan lies within the derivative.

    >>> image_path(ScanId("0007", "2"), Grid.mni(4)).as_posix()
    'sub-0007/ses-2/anat/sub-0007_ses-2_space-MNI152NLin2009aSym_res-4_desc-brain_T1w.nii.gz'
    """
    folder = Path(f"sub-{scan.participant}")
    if scan.session:
        folder /= f"ses-{scan.session}"
    return folder / "anat" / f"{scan}_{_entities(grid)}.nii.gz"


def _entities(grid: Grid) -> str:
    """Return the part of the file names that all scans share; a label has no decimal point."""
    resolution = f"{grid.voxel_mm:g}".replace(".", "p")
    return f"space-{SPACE}_res-{resolution}_desc-brain_T1w"


def _claim(folder: Path, *, overwrite: bool) -> None:
    """Make ``folder`` ready to be written to, removing the images of an earlier derivative if asked."""
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"A derivative needs a folder, got the file {folder}. Choose another place.")
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        return
    if not overwrite:
        raise StoreError(
            f"A derivative needs a new or empty folder, got {folder} with files in it. "
            "Choose another folder, or allow overwriting."
        )
    if not _is_ours(folder / "dataset_description.json"):
        raise StoreError(
            f"Overwriting needs a folder that privoxel simulated, got {folder} without such a "
            "dataset_description.json. Choose another folder."
        )
    for old in folder.glob("sub-*"):
        shutil.rmtree(old)


def _is_ours(file: Path) -> bool:
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    made_by = description.get("GeneratedBy") if isinstance(description, dict) else None
    return isinstance(made_by, list) and any(
        isinstance(m, dict) and m.get("Name") == "privoxel" for m in made_by
    )


def _write_description(cohort: Cohort, folder: Path) -> None:
    description: dict[str, Any] = {
        "Name": "Simulated T1-like brains",
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "privoxel",
                "Version": __version__,
                "Description": f"Simulated, no person was scanned ({cohort.fingerprint})",
            }
        ],
    }
    sidecar = {
        "SkullStripped": True,
        "Resolution": f"{cohort.grid.voxel_mm:g} mm isotropic, simulated natively",
    }
    write_json(folder / "dataset_description.json", description)
    write_json(folder / f"{_entities(cohort.grid)}.json", sidecar)


def _write_image(path: Path, intensity: Float32Array, grid: Grid) -> None:
    import nibabel  # noqa: PLC0415 - only this function needs it

    whole = np.clip(np.rint(intensity), 0, np.iinfo(np.int16).max).astype(np.int16)
    nifti: Any = nibabel.Nifti1Image  # its methods carry no types
    image = nifti(whole, grid.affine)
    image.set_sform(grid.affine, code="mni")
    image.set_qform(grid.affine, code="mni")
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        part.write_bytes(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))


def _write_participants(cohort: Cohort, folder: Path) -> None:
    people = cohort.covariates
    _, first = np.unique(people.participant_index, return_index=True)
    table = io.StringIO()
    writer = csv.writer(table, delimiter="\t", lineterminator="\n")
    writer.writerow(_PARTICIPANT_COLUMNS)
    for row in first:
        name = f"sub-{people.scans[row].participant}"
        writer.writerow([name, f"{people.age[row]:.2f}", people.sex[row], people.site[row]])
    write_text(folder / "participants.tsv", table.getvalue())
    write_json(folder / "participants.json", _PARTICIPANT_COLUMNS)
