"""Pictures of scans: mid planes as grey bytes, and bytes as an image inside the page.

Planes are cut in the volume's own axes, taken as right-left, posterior-anterior, inferior-superior;
each is turned so that up is up, and padded to one common size.
"""

import base64
import struct
import zlib

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

GreyImage = npt.NDArray[np.uint8]

PERCENTILES = (1.0, 99.5)


def mid_slices(volume: ArrayLike, grid: tuple[int, int, int] | None = None) -> GreyImage:
    """Return the three mid planes of a scan: uint8 (3, height, width), sagittal, coronal, axial.

    Grey runs from the 1st to the 99.5th percentile of the volume, whatever its units (a z-scored volume has
    arbitrary ones); a constant volume is black. Planes smaller than the largest are centred on black.

    Args:
        volume: one scan, three axes: right-left, posterior-anterior, inferior-superior.
        grid: shape of a flattened ``volume``.

    Raises:
        ValueError: if the volume has not three axes or holds values that are not finite.
    """
    voxels = np.asarray(volume, dtype=np.float64)
    if grid is not None:
        voxels = voxels.reshape(grid)
    if voxels.ndim != 3 or not voxels.size:
        raise ValueError(f"volume needs three axes, got shape {voxels.shape}.")
    if not np.isfinite(voxels).all():
        raise ValueError(f"volume needs finite values, got {int((~np.isfinite(voxels)).sum())} that are not.")
    grey = _grey(voxels)
    x, y, z = (size // 2 for size in voxels.shape)
    planes = [np.flipud(plane.T) for plane in (grey[x], grey[:, y], grey[:, :, z])]
    height, width = (max(plane.shape[axis] for plane in planes) for axis in (0, 1))
    return np.stack([_centred(plane, height, width) for plane in planes])


def png_uri(image: GreyImage) -> str:
    """Return a grey image (height × width, uint8) as a ``data:`` address holding a PNG.

    Raises:
        ValueError: if the image is not two-dimensional uint8.
    """
    if image.ndim != 2 or image.dtype != np.uint8:
        raise ValueError(f"image needs height × width bytes, got {image.dtype} of shape {image.shape}.")
    height, width = image.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = np.pad(image, ((0, 0), (1, 0))).tobytes()
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def side_by_side(planes: GreyImage, gap: int = 2) -> GreyImage:
    """Return planes (count × height × width) next to each other, ``gap`` black columns between two."""
    padded = np.pad(planes, ((0, 0), (0, 0), (0, gap)))
    return np.concatenate(list(padded), axis=1)[:, : -gap or None]


def _grey(voxels: npt.NDArray[np.float64]) -> GreyImage:
    low, high = np.percentile(voxels, PERCENTILES)
    if high <= low:
        return np.zeros(voxels.shape, dtype=np.uint8)
    return np.asarray(np.rint(255 * np.clip((voxels - low) / (high - low), 0, 1)), dtype=np.uint8)


def _centred(plane: GreyImage, height: int, width: int) -> GreyImage:
    missing = (height - plane.shape[0], width - plane.shape[1])
    return np.pad(plane, [(total // 2, total - total // 2) for total in missing])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
