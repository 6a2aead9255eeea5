"""A bounded view of a file: no read goes past its end, whatever length the file claims."""

from collections.abc import Iterator
from typing import IO, final

from privoxel.scan.limits import UnreadableError

CHUNK = 1 << 20
LONGEST_LINE = 1 << 16
BLOCK = 1 << 16


@final
class Window:
    """Bytes ``start`` to ``end`` of a seekable file; positions count from the file's first byte."""

    def __init__(self, file: IO[bytes], start: int = 0, end: int | None = None) -> None:
        self.file = file
        self.start = start
        self.end = file.seek(0, 2) if end is None else end
        self.position = start
        self._block, self._block_start = b"", start

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def remaining(self) -> int:
        """Bytes from here to the end."""
        return max(self.end - self.position, 0)

    def part(self, start: int, length: int) -> "Window":
        """Return the view of ``length`` bytes from ``start`` of the file.

        Raises:
            UnreadableError: if they do not lie in this view.
        """
        if start < self.start or length < 0 or start + length > self.end:
            raise UnreadableError(f"it is cut off: {length:,} bytes are claimed at byte {start:,}")
        return Window(self.file, start, start + length)

    def peek(self, length: int) -> bytes:
        """Return up to ``length`` bytes from here without moving."""
        return self.read_at(self.position, min(length, self.remaining))

    def read_at(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start`` without moving; fewer where the view ends."""
        offset = start - self._block_start
        if offset >= 0 and offset + length <= len(self._block):
            return self._block[offset : offset + length]
        available = max(self.end - start, 0)
        self.file.seek(start)
        if length > BLOCK:
            return self.file.read(min(length, available))
        self._block, self._block_start = self.file.read(min(BLOCK, available)), start
        return self._block[:length]

    def take(self, length: int) -> bytes:
        """Return exactly ``length`` bytes and move past them.

        Raises:
            UnreadableError: if there are fewer.
        """
        return self.read_at(self.skip(length), length)

    def skip(self, length: int) -> int:
        """Move past ``length`` bytes and return where they began.

        Raises:
            UnreadableError: if there are fewer.
        """
        begin = self.position
        if not 0 <= length <= self.end - begin:
            raise UnreadableError(f"it is cut off: {length:,} bytes are claimed at byte {begin:,}")
        self.position += length
        return begin

    def line(self) -> bytes:
        """Return the bytes up to the next newline, without it, and move past it.

        Raises:
            UnreadableError: if there is none within 64 KiB.
        """
        text, newline, _ = self.peek(LONGEST_LINE).partition(b"\n")
        if not newline:
            raise UnreadableError(f"a line that begins at byte {self.position:,} has no end")
        self.position += len(text) + 1
        return text

    def chunks(self, overlap: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield all bytes in blocks, each with its position; ``overlap`` bytes are repeated in the next."""
        position = self.start
        while position < self.end:
            self.file.seek(position)
            block = self.file.read(min(CHUNK, self.end - position))
            if not block:
                return
            yield position, block
            position += len(block)
            if position < self.end:
                position -= min(overlap, len(block) - 1)
