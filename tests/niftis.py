"""Tiny NIfTI images in MNI152 space, and folders of them, on unequal axes."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from privoxel.cohort.base import Grid

GRID = Grid((7, 8, 9), 20.0, (-60.0, -90.0, -70.0))
"""The brain's box in 20 mm voxels."""

SHAPE = (15, 19, 18)
"""An image of 10 mm voxels around it."""

AFFINE = np.array([[10.0, 0, 0, -70], [0, 10, 0, -110], [0, 0, 10, -80], [0, 0, 0, 1]])


def blob(seed: int, shape: tuple[int, ...] = SHAPE) -> npt.NDArray[np.float32]:
    """Return a noisy lump in the middle of a background of 0."""
    rng = np.random.default_rng(seed)
    out = np.zeros(shape, dtype=np.float32)
    core = tuple(slice(2, n - 2) for n in shape)
    out[core] = rng.uniform(20, 100, size=out[core].shape)
    return out


def write_image(path: Path, array: npt.ArrayLike, affine: npt.ArrayLike = AFFINE) -> Path:
    """Write an image, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(array), np.asarray(affine)), path)
    return path


def image_path(folder: Path, participant: str, *, entities: str = "", session: str = "") -> Path:
    """Return where BIDS puts a T1w image; ``entities`` come between participant and suffix."""
    stem = f"sub-{participant}" + (f"_ses-{session}" if session else "")
    inside = folder / f"sub-{participant}" / (f"ses-{session}" if session else "") / "anat"
    return inside / f"{stem}{entities}_T1w.nii.gz"


def write_lines(path: Path, *lines: str, end: str = "\n") -> Path:
    """Write a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def write_bids(folder: Path, participants: Sequence[str] = ("01", "02", "03"), *, extra: str = "") -> Path:
    """Write a BIDS folder of one image a participant; ages 41, 42, …; sites A and B in turn."""
    rows = []
    for i, participant in enumerate(participants):
        write_image(image_path(folder, participant, entities="_space-MNI152NLin2009aSym_desc-brain"), blob(i))
        rows.append(f"sub-{participant}\t{41 + i}\t{'FM'[i % 2]}\t{'AB'[i % 2]}")
    write_lines(
        folder / "participants.tsv", "participant_id\tage\tsex\tsite", *rows, *([extra] if extra else [])
    )
    return folder
