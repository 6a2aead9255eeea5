"""The derivative: names, images and sidecars of one prepared scan, and the descriptions of the whole."""

import gzip
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, final

import nibabel
import numpy as np
import numpy.typing as npt

from privoxel.arrays import FloatArray
from privoxel.cohort.derivative import SPACE
from privoxel.prepare.geometry import lps
from privoxel.store import atomic_path, write_json, write_text
from privoxel.version import __version__

STATE = ".privoxel"
PAGE = "prepare.html"
IGNORED = ("*.html", "figures", "*_xfm.*")
BIDS_VERSION = "1.9.0"


@final
class Names(NamedTuple):
    """Where the files of one scan go, relative to the derivative."""

    brain: Path
    mask: Path
    native_mask: Path
    transform: Path
    before: Path
    after: Path


def names_of(stem: str, voxel_mm: float) -> Names:
    """Return the names of the files made of the scan called ``stem`` (its entities, without the suffix).

    >>> names_of("sub-01_ses-2_run-1", 2.0).brain.as_posix()
    'sub-01/ses-2/anat/sub-01_ses-2_run-1_space-MNI152NLin2009aSym_res-2_desc-brain_T1w.nii.gz'
    """
    parts = stem.split("_")
    person = Path(parts[0])
    session = person / parts[1] if len(parts) > 1 and parts[1].startswith("ses-") else person
    anat, figures = session / "anat", person / "figures"
    resolution = f"{voxel_mm:g}".replace(".", "p")
    placed = f"{stem}_space-{SPACE}_res-{resolution}_desc-brain"
    return Names(
        brain=anat / f"{placed}_T1w.nii.gz",
        mask=anat / f"{placed}_mask.nii.gz",
        native_mask=anat / f"{stem}_desc-brain_mask.nii.gz",
        transform=anat / f"{stem}_from-T1w_to-{SPACE}_mode-image_xfm.txt",
        before=figures / f"{stem}_desc-before_T1w.png",
        after=figures / f"{stem}_desc-after_T1w.png",
    )


def write_image(path: Path, array: npt.NDArray[Any], affine: FloatArray, *, space: str) -> None:
    """Write an image whose sform and qform say ``space`` (a NIfTI code: "mni", "scanner", "aligned")."""
    nifti: Any = nibabel.Nifti1Image  # its methods carry no types
    image = nifti(array, affine)
    image.set_sform(affine, code=space)
    image.set_qform(affine, code=space)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as part:
        part.write_bytes(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))


def transform_text(to_scan: FloatArray) -> str:
    """Return the map from the template's world to the scan's as ITK's text, as resamplers read it."""
    matrix = lps(to_scan)
    numbers = " ".join(repr(float(x)) for x in (*matrix[:3, :3].ravel(), *matrix[:3, 3]))
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
    )


def sidecar_of(image: Path) -> Path:
    """Return the JSON beside an image."""
    return image.with_name(image.name.removesuffix(".nii.gz") + ".json")


def write_sidecars(folder: Path, names: Names, source: str, facts: Mapping[str, Any]) -> None:
    """Write the JSON beside each image of a scan made of ``source`` (relative to the raw dataset)."""
    origin = {"Sources": [f"bids:raw:{source}"]}
    resolution = {"Resolution": f"{facts['voxel_mm']:g} mm isotropic, the mean over each voxel"}
    brain = {"SkullStripped": True, **resolution, **origin, "Privoxel": dict(facts)}
    write_json(folder / sidecar_of(names.brain), brain)
    write_json(folder / sidecar_of(names.mask), {"Type": "Brain", **resolution, **origin})
    write_json(folder / sidecar_of(names.native_mask), {"Type": "Brain", **origin})


def write_descriptions(folder: Path, raw: Path, settings: Mapping[str, Any]) -> None:
    """Write what makes the folder a BIDS derivative of the dataset ``raw``."""
    link = Path(os.path.relpath(raw.resolve(), folder.resolve())).as_posix()
    packages = ", ".join(f"{name} {settings[name]}" for name in ("deepbet", "SimpleITK", "nilearn"))
    description = {
        "Name": "Brains of T1-weighted scans in MNI152 space",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "privoxel",
                "Version": __version__,
                "Description": "privoxel prepare: reorientation, brain extraction, N4 bias correction, rigid "
                f"then affine registration to the ICBM152 2009a symmetric template, averaging ({packages})",
            }
        ],
        "SourceDatasets": [{"URL": link}],
        "DatasetLinks": {"raw": link},
    }
    write_json(folder / "dataset_description.json", description)
    write_text(folder / ".bidsignore", "".join(f"{pattern}\n" for pattern in IGNORED))


def as_int16(volume: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int16]:
    """Return a brain whose median is 1000, at least 1 inside its mask and 0 outside."""
    scaled = volume * (1000.0 / max(float(np.median(volume[mask])), 1e-6))
    inside = np.clip(np.rint(scaled), 1, np.iinfo(np.int16).max)
    return np.where(mask, inside, 0).astype(np.int16)
