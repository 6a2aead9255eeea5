"""Randomness with names: every stream is a function of one root seed and the name of its use.

A job's stream depends on its name only, never on the order in which jobs run, so serial, parallel
and resumed runs agree.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Streams:
    """Named random streams from one root seed.

    >>> a = Streams(7).generator("cohort/split").integers(1000)
    >>> b = Streams(7).generator("cohort/split").integers(1000)
    >>> bool(a == b)
    True
    """

    root: int
    prefix: str = ""

    def child(self, name: str) -> "Streams":
        """Return the streams below ``name``."""
        return Streams(self.root, f"{self.prefix}{name}/")

    def seed(self, name: str) -> int:
        """Return the 63-bit seed of the stream called ``name``."""
        digest = hashlib.sha256(f"{self.root}\0{self.prefix}{name}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def generator(self, name: str) -> np.random.Generator:
        """Return a NumPy generator for the stream called ``name``."""
        return np.random.default_rng(self.seed(name))


@contextlib.contextmanager
def torch_stream(seed: int) -> Iterator[None]:
    """Run a block with torch's global generators seeded, and restore them after.

    For the operations that take no generator argument: dropout and default initialisation.
    """
    import torch  # noqa: PLC0415 - the package must import without torch

    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
