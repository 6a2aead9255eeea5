"""Preparing a raw head: brain mask, landmarks and time, on perturbed copies of Colin27.

Colin27 with its skull (ch2.nii.gz) and without (ch2bet.nii.gz) lie in Debian's package mricron-data. Each
copy is turned (up to 20 degrees about each axis), moved (up to 25 mm), scaled (0.92 to 1.08 along each
axis), shaded (a smooth field), given noise (SD 2 of 255), put onto other 1 mm voxels in another
orientation, and prepared from its file on one thread. The truth is ch2bet's mask, moved alike, and the
inverse of the move: Colin27 lies in MNI space, but not exactly as the ICBM152 template does, so that
landmark differences include how the two differ.

    python benchmarks/prepare.py CH2.nii.gz CH2BET.nii.gz [--copies 6] [--seed 0]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from privoxel.cohort.nifti import read_head
from privoxel.cohort.preprocess import canonical
from privoxel.executor import one_thread
from privoxel.prepare.geometry import affine_about, distances, lattice, rotation
from privoxel.prepare.quality import dice
from privoxel.prepare.scan import Prepared, prepare_head
from privoxel.prepare.settings import PrepareSettings
from privoxel.prepare.template import load_template

CENTRE = np.array([0.0, -17.0, 18.0])
SHAPE = (200, 250, 220)
ORIENTATIONS = ("PSR", "RAS", "LIP", "ASL", "LPS", "IPR")
LANDMARK_MM = 10.0


class Copy(NamedTuple):
    """A perturbed head's file, the true brain in canonical voxels, and the map to Colin27's world."""

    path: Path
    brain: npt.NDArray[np.bool_]
    to_colin: npt.NDArray[np.float64]


def oriented(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Return a file's voxels and affine, canonical."""
    image: Any = nibabel.load(path)
    return canonical(image.get_fdata(dtype=np.float32), image.affine)


def perturbed(head: Path, brain: Path, rng: np.random.Generator, orientation: str, path: Path) -> Copy:
    """Write one perturbed copy and return it with its truth."""
    array, colin = oriented(head)
    truth, _ = oriented(brain)
    linear = rotation(tuple(rng.uniform(-20, 20, 3))) @ np.diag(rng.uniform(0.92, 1.08, 3))
    to_colin = affine_about(linear, CENTRE, rng.uniform(-25, 25, 3))
    affine = np.eye(4)
    affine[:3, 3] = CENTRE - np.array(SHAPE) / 2 + rng.uniform(-1, 1, 3)
    to_voxels = np.linalg.inv(colin) @ to_colin @ affine

    def moved(voxels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return ndimage.affine_transform(
            voxels, to_voxels[:3, :3], to_voxels[:3, 3], output_shape=SHAPE, order=1
        )

    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij", sparse=True)
    slopes, curves = rng.uniform(-0.2, 0.2, (2, 3))
    field = sum(a * x + b * x**2 for a, b, x in zip(slopes, curves, axes, strict=True))
    shaded = np.abs(moved(array) * np.exp(field) + rng.normal(0, 2, SHAPE))
    image: Any = nibabel.Nifti1Image(np.clip(np.rint(shaded * 4), 0, 4000).astype(np.int16), affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(orientation)
    )
    nibabel.save(image.as_reoriented(turn), path)
    return Copy(path, moved((truth > 0).astype(np.float32)) > 0.5, to_colin)


def measure(copy: Copy, points: npt.NDArray[np.float64]) -> tuple[Prepared, list[float]]:
    """Return the preparation, its Dice, mean and largest landmark difference (mm), wall and processor s."""
    wall, processor = time.perf_counter(), time.process_time()
    with one_thread():
        head, _ = read_head(copy.path)
        prepared = prepare_head(head, PrepareSettings(), seed=1)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    apart = distances(copy.to_colin @ prepared.to_scan, np.eye(4), points)
    return prepared, [dice(prepared.native_mask, copy.brain), *apart, wall, processor]


def main() -> None:
    """Print one row a copy, and the worst and the median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("head", type=Path)
    parser.add_argument("brain", type=Path)
    parser.add_argument("--copies", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    template = load_template()
    points = lattice(template.mask, template.grid.affine, LANDMARK_MM)
    rng = np.random.default_rng(options.seed)
    rows = []
    print(f"{len(points)} landmarks, one every {LANDMARK_MM:g} mm inside the template's brain")
    print(
        "| copy | stored as | Dice | landmarks, mean mm | largest mm | s | processor s |\n"
        "|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for k in range(options.copies):
            orientation = ORIENTATIONS[k % len(ORIENTATIONS)]
            copy = perturbed(options.head, options.brain, rng, orientation, Path(folder) / f"{k}.nii.gz")
            prepared, row = measure(copy, points)
            rows.append(row)
            print(
                f"| {k + 1} | {orientation} | {row[0]:.3f} | "
                + " | ".join(f"{v:.1f}" for v in row[1:])
                + " |"
            )
        again, _ = measure(copy, points)
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    print("| median | | " + f"{medians[0]:.3f} | " + " | ".join(f"{v:.1f}" for v in medians[1:]) + " |")
    same = np.array_equal(again.to_scan, prepared.to_scan) and np.array_equal(again.brain, prepared.brain)
    print(f"prepared twice, the last copy is {'equal bit for bit' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
