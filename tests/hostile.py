"""Damaged tables and images: what a fuzz run makes of good ones."""

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.niftis import AFFINE, SHAPE, blob

FIELDS = {
    "dim": (40, "8h"),
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    "pixdim": (76, "8f"),
    "vox_offset": (108, "f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "codes": (252, "2h"),
    "quatern": (256, "6f"),
    "srow": (280, "12f"),
    "magic": (344, "4B"),
}
INTEGERS = (-32768, -1, 0, 1, 2, 3, 4, 7, 8, 16, 64, 1792, 2304, 32767)
REALS = (0.0, -1.0, 1e-38, 1e38, np.inf, -np.inf, np.nan, 352.0, 353.0, 1e9)


def good_image() -> bytes:
    """Return the bytes of a sound image with both matrices."""
    image = nib.Nifti1Image(blob(3), AFFINE)
    image.set_sform(AFFINE, code=4)
    image.set_qform(AFFINE, code=4)
    assert image.shape == SHAPE
    return image.to_bytes()


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Return an image with a few header fields or bytes replaced, or cut, or with its bytes swapped."""
    whole = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        start, kind = list(FIELDS.values())[rng.integers(len(FIELDS))]
        place = start + int(rng.integers(int(kind[:-1] or 1))) * struct.calcsize(kind[-1])
        choices = {"h": INTEGERS, "f": REALS, "B": (0, 1, 110, 255)}[kind[-1]]
        struct.pack_into(f"<{kind[-1]}", whole, place, choices[rng.integers(len(choices))])
    for _ in range(rng.integers(0, 3)):
        whole[rng.integers(352)] = rng.integers(256)
    if rng.random() < 0.1:
        whole = whole[: rng.integers(len(whole))]
    return bytes(whole)


def damaged_files(folder: Path, count: int, seed: int) -> Iterator[Path]:
    """Yield damaged images, plain and compressed in turn; each replaces the one before."""
    rng = np.random.default_rng(seed)
    content = good_image()
    for k in range(count):
        broken = damaged(content, rng)
        if k % 2 == 0:
            path = folder / "broken.nii"
            path.write_bytes(broken)
        else:
            path = folder / "broken.nii.gz"
            packed = bytearray(gzip.compress(broken, 1))
            if rng.random() < 0.3:
                packed[rng.integers(len(packed))] ^= 1 << int(rng.integers(8))
            path.write_bytes(packed)
        yield path


def damaged_text(text: str, rng: np.random.Generator) -> bytes:
    """Return a table with cells, separators and bytes replaced, doubled or removed."""
    pieces = list(text)
    strange = [
        "\t",
        "\n",
        "\r",
        '"',
        ",",
        ";",
        "\0",
        "\ufeff",
        "-",
        "nan",
        "1e999",
        "89+",
        "n/a",
        "../",
        "٣",
        "\x1b[2J",
    ]
    for _ in range(rng.integers(1, 8)):
        place = int(rng.integers(len(pieces)))
        action = rng.integers(3)
        if action == 0:
            pieces[place] = strange[rng.integers(len(strange))]
        elif action == 1:
            pieces.insert(place, strange[rng.integers(len(strange))])
        else:
            del pieces[place]
    content = bytearray("".join(pieces).encode())
    if rng.random() < 0.2:
        content[rng.integers(len(content))] = rng.integers(256)
    return bytes(content)
