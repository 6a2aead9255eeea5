"""Compressed files: gzip, bzip2, xz, zlib (as joblib writes it), unpacked in blocks within the limits."""

import bz2
import lzma
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

from privoxel.scan.limits import MEBIBYTE, Budget, UnreadableError
from privoxel.scan.window import Window

BLOCK = 1 << 16
IN_MEMORY = 16 * MEBIBYTE
MAGICS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x5d\x00\x00": "lzma",
    b"ZF0x": "old joblib",
    b"\x78\x01": "zlib",
    b"\x78\x5e": "zlib",
    b"\x78\x9c": "zlib",
    b"\x78\xda": "zlib",
}
FOREIGN = {
    b"\x04\x22\x4d\x18": "lz4",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"Rar!": "rar",
    b"7z\xbc\xaf\x27\x1c": "7z",
}
_MAKERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=256 * MEBIBYTE),
    "lzma": lambda: lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=256 * MEBIBYTE),
    "zlib": zlib.decompressobj,
    "old joblib": zlib.decompressobj,
}
OLD_HEADER = 21
"""Bytes before the stream of joblib up to 0.9: its mark and the size in hexadecimal; a blank may follow."""
ERRORS = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)


def compression_of(head: bytes) -> str | None:
    """Return how a file that begins with ``head`` is compressed, None if it is not."""
    return next((name for magic, name in MAGICS.items() if head.startswith(magic)), None)


def spool() -> IO[bytes]:
    """Return a temporary file that stays in memory while it is small; it vanishes when closed."""
    return tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)


def unpack(window: Window, kind: str, budget: Budget, out: IO[bytes]) -> str:
    """Write the unpacked bytes to ``out``; return what is wrong with the stream, "" if nothing.

    Several streams one after another are one file. What follows the last one is left.

    Raises:
        ScanStoppedError: if a limit is reached.
        UnreadableError: if nothing can be unpacked.
    """
    if kind == "old joblib":
        window.skip(min(OLD_HEADER, window.remaining))
        window.skip(int(window.peek(1) == b" "))
    try:
        while window.remaining:
            begin = window.position
            ended = _stream(window, _MAKERS[kind](), budget, out)
            if not ended:
                return "it is cut off; what could be unpacked was looked at"
            if window.position == begin or compression_of(window.peek(8)) != kind:
                break
    except ERRORS as error:
        if not out.tell():
            raise UnreadableError(f"it cannot be unpacked as {kind} ({type(error).__name__})") from error
        return f"it is damaged ({kind}); what could be unpacked was looked at"
    return ""


def _stream(window: Window, inflater: Any, budget: Budget, out: IO[bytes]) -> bool:
    """Unpack one stream; return whether it came to its end."""
    while window.remaining and not inflater.eof:
        block = window.peek(BLOCK)
        window.skip(len(block))
        for part in _parts(inflater, block):
            budget.expand(len(part))
            out.write(part)
        unused = len(inflater.unused_data)
        if inflater.eof:
            window.position -= unused
    return bool(inflater.eof)


def _parts(inflater: Any, block: bytes) -> Iterator[bytes]:
    """Yield what a block unpacks to, a mebibyte at a time."""
    yield inflater.decompress(block, MEBIBYTE)
    while not inflater.eof:
        tail = getattr(inflater, "unconsumed_tail", b"")
        if tail:
            yield inflater.decompress(tail, MEBIBYTE)
        elif not getattr(inflater, "needs_input", True):
            yield inflater.decompress(b"", MEBIBYTE)
        else:
            return
