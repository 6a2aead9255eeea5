"""What a scan may take: bytes, depth, members, seconds. Nothing an artefact claims of itself is believed."""

import time
from dataclasses import dataclass
from typing import final

from privoxel.errors import PrivoxelError

MEBIBYTE = 1 << 20


class ScanStoppedError(PrivoxelError):
    """A limit of the whole scan was reached; what was found until then stands."""


class UnreadableError(PrivoxelError):
    """One part of an artefact that cannot be read; the others still are."""


@final
@dataclass(frozen=True)
class Limits:
    """Limits of the scan of one artefact.

    ``depth``: archives within archives. ``members``: files of all its archives. ``expanded``: bytes that
    decompression may give in all. ``ratio``: expanded bytes over those of the file, beyond ``free`` bytes.
    ``seconds``: wall time. ``text``: bytes of one string or header that are held in memory at once.
    """

    depth: int = 4
    members: int = 20_000
    expanded: int = 8 << 30
    ratio: float = 300.0
    free: int = 64 * MEBIBYTE
    seconds: float = 600.0
    text: int = 16 * MEBIBYTE


@final
class Budget:
    """What is left of the limits during one scan."""

    def __init__(self, limits: Limits, size: int) -> None:
        self.limits = limits
        self._size = max(size, 1)
        self._expanded = 0
        self._members = 0
        self._until = time.monotonic() + limits.seconds

    def expand(self, count: int) -> None:
        """Take note of ``count`` decompressed bytes.

        Raises:
            ScanStoppedError: if there are too many, for this file or at all.
        """
        self._expanded += count
        allowed = min(self.limits.expanded, max(self.limits.free, int(self.limits.ratio * self._size)))
        if self._expanded > allowed:
            raise ScanStoppedError(
                f"it unpacks to more than {allowed / MEBIBYTE:,.0f} MiB, as a decompression bomb does. "
                "Look at it by other means, or raise the limit with --max-unpacked"
            )
        self.tick()

    def member(self) -> None:
        """Take note of one more file in an archive.

        Raises:
            ScanStoppedError: if there are too many.
        """
        self._members += 1
        if self._members > self.limits.members:
            raise ScanStoppedError(f"it holds more than {self.limits.members:,} files. Scan its parts")
        self.tick()

    def tick(self) -> None:
        """Raise ``ScanStoppedError`` if the time is up."""
        if time.monotonic() > self._until:
            raise ScanStoppedError(
                f"it takes longer than {self.limits.seconds:g} s. Give it more time with --max-seconds"
            )
