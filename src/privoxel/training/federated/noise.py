"""NumPy's global generator for the length of a block: Flower's noise takes no generator."""

import contextlib
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def numpy_stream(seed: int) -> Iterator[None]:
    """Run a block with NumPy's global generator seeded, and restore it after."""
    before = np.random.get_state()  # noqa: NPY002 - the generator that Flower draws from
    np.random.set_state(np.random.RandomState(seed % 2**32).get_state())  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
