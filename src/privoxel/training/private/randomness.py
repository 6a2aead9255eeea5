"""Where noise and sampling come from.

Who can guess the noise can subtract it. ``seeded`` randomness follows from the run's seed, which a report
prints: for experiments, not for a release. ``secret`` seeds PyTorch's and NumPy's generators from the
operating system and forgets the seeds; they are not cryptographic. ``secure`` draws from AES in counter mode.
"""

import os
import secrets
from collections.abc import Callable
from typing import Protocol, final

import numpy as np
import torch
from torch import Tensor

from privoxel.arrays import FloatArray, IntArray
from privoxel.errors import ConfigError
from privoxel.seeding import Streams

SUMMED = 4


class Randomness(Protocol):
    """The draws of a private training."""

    def start(self, epoch: int, device: torch.device) -> None:
        """Begin ``epoch``."""
        ...

    def state(self) -> Tensor | None:
        """Return where the noise of the epoch is, for a resumed training; None where nobody may know."""
        ...

    def resume(self, state: Tensor | None) -> None:
        """Take up the noise where it was in the epoch that was begun, if that is known."""
        ...

    def coins(self, count: int, rate: float) -> IntArray:
        """Return those of ``count`` positions whose own coin of probability ``rate`` shows heads."""
        ...

    def one_of(self, count: int) -> int:
        """Return a position below ``count``."""
        ...

    def normal(self, like: Tensor, sd: float) -> Tensor:
        """Return Gaussian noise of the shape of ``like``."""
        ...


def make_randomness(kind: str, streams: Streams) -> Randomness:
    """Return the randomness called ``seeded``, ``secret`` or ``secure``.

    Raises:
        ConfigError: if ``secure`` is asked for and the package cryptography is not installed.
    """
    if kind == "seeded":
        return _Generators(lambda epoch: streams.seed(f"privacy/{epoch}"), is_secret=False)
    if kind == "secret":
        return _Generators(lambda _: secrets.randbits(63), is_secret=True)
    return _Cipher()


@final
class _Generators:
    """Draws of the generators of NumPy and PyTorch, seeded for each epoch."""

    def __init__(self, seed_of: Callable[[int], int], *, is_secret: bool) -> None:
        self._seed_of, self._is_secret = seed_of, is_secret
        self._rng = np.random.default_rng(0)
        self._noise = torch.Generator()

    def start(self, epoch: int, device: torch.device) -> None:
        sampling, noise = np.random.SeedSequence(self._seed_of(epoch)).spawn(2)
        self._rng = np.random.default_rng(sampling)
        self._noise = torch.Generator(device)
        self._noise.manual_seed(int(noise.generate_state(1, np.uint64)[0] >> 1))

    def state(self) -> Tensor | None:
        return None if self._is_secret else self._noise.get_state()

    def resume(self, state: Tensor | None) -> None:
        if state is not None:
            self._noise.set_state(state.cpu())

    def coins(self, count: int, rate: float) -> IntArray:
        return np.flatnonzero(self._rng.random(count) < rate)

    def one_of(self, count: int) -> int:
        return int(self._rng.integers(count))

    def normal(self, like: Tensor, sd: float) -> Tensor:
        noise = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        return noise.normal_(0.0, 1.0, generator=self._noise) * sd


@final
class _Cipher:
    """Draws of AES-256 in counter mode with a key of the operating system, thrown away at the end.

    A normal draw is half the sum of four (Box and Muller 1958), so that the gaps of floating-point numbers
    do not give the noise away (Holohan and Braghin 2021, as in Opacus' secure mode).
    """

    def __init__(self) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: PLC0415
        except ImportError as error:
            raise ConfigError(
                "[privacy] randomness = 'secure' needs the package cryptography. "
                "Install it (pip install cryptography), or take randomness = 'secret'."
            ) from error
        self._stream = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(os.urandom(16))).encryptor()

    def start(self, epoch: int, device: torch.device) -> None:
        pass

    def state(self) -> Tensor | None:
        return None

    def resume(self, state: Tensor | None) -> None:
        pass

    def coins(self, count: int, rate: float) -> IntArray:
        return np.flatnonzero(self._uniform(count) < rate)

    def one_of(self, count: int) -> int:
        return int(self._uniform(1)[0] * count)

    def normal(self, like: Tensor, sd: float) -> Tensor:
        total = sum(self._box_muller(like.numel()) for _ in range(SUMMED))
        noise = torch.from_numpy(np.asarray(total) * (sd / np.sqrt(SUMMED)))
        return noise.reshape(like.shape).to(like)

    def _uniform(self, count: int) -> FloatArray:
        """Return numbers in [0, 1), of 53 random bits each."""
        bits = np.frombuffer(self._stream.update(bytes(8 * count)), dtype=np.uint64)
        return np.asarray((bits >> np.uint64(11)) * 2.0**-53, dtype=np.float64)

    def _box_muller(self, count: int) -> FloatArray:
        half = -(-count // 2)
        radius = np.sqrt(-2.0 * np.log1p(-self._uniform(half)))
        angle = 2.0 * np.pi * self._uniform(half)
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
