"""Array types and the checks at public boundaries.

Public functions take anything NumPy can read, check it here and raise ``ValueError`` with the
name of the argument; private kernels may then trust their inputs.
"""

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


def as_vector(values: ArrayLike, name: str) -> FloatArray:
    """Return ``values`` as a finite one-dimensional float64 array.

    Raises:
        ValueError: if it is not one-dimensional or not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} needs one dimension, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} needs finite values, got {int((~np.isfinite(array)).sum())} that are not.")
    return array


def as_mask(values: ArrayLike, name: str, length: int | None = None) -> BoolArray:
    """Return ``values`` as a one-dimensional Boolean mask, of ``length`` if that is given.

    Raises:
        ValueError: if it is not Boolean (or 0/1), not one-dimensional or of another length.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} needs one dimension, got shape {array.shape}.")
    if array.dtype != np.bool_:
        if not np.isin(array, (0, 1)).all():
            raise ValueError(f"{name} needs true/false values, got {np.unique(array)[:5]}.")
        array = array.astype(np.bool_)
    if length is not None and array.shape[0] != length:
        raise ValueError(f"{name} needs {length} values, got {array.shape[0]}.")
    return array
