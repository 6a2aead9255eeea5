"""HDF5 files (Keras ``.h5``): names and strings without the HDF5 library.

Names of groups, datasets, attributes and columns, attributes' text and uncompressed values stand in the
file as they are. Chunks that a deflate filter compressed are zlib streams; each is unpacked within the
limits of the scan and looked through. Values that a filter shuffled, or other filters packed, are not.
"""

import re
import zlib

from privoxel.scan.collector import Collector
from privoxel.scan.findings import Kind
from privoxel.scan.limits import MEBIBYTE
from privoxel.scan.roles import RECORD_HOLDERS, is_optimiser
from privoxel.scan.texts import OVERLAP, scan_binary
from privoxel.scan.window import Window

MAGIC = b"\x89HDF\r\n\x1a\n"
ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
OPTIMISER_GROUP = "optimizer"
LONGEST_STREAM = 16 * MEBIBYTE
SMALLEST = 64
NAME = re.compile(
    rb"(?<=\x00)[A-Za-z_][\x20-\x7e]{2,80}(?=\x00)|(?<![\x20-\x7e])[A-Za-z_][\x20-\x7e]{7,80}(?![\x20-\x7e])"
)


def scan_hdf5(window: Window, collector: Collector) -> None:
    """Report names and strings of the file and of its compressed chunks."""
    scan_binary(window, collector)
    names = _names(window, collector)
    key = next((name for name in names if name == OPTIMISER_GROUP or is_optimiser(name)), None)
    if key is not None:
        collector.found(Kind.OPTIMISER, "state of an optimiser", f"byte {names[key]:,}", example=key[:60])
    for name in names:
        if name in RECORD_HOLDERS:
            what = f"{RECORD_HOLDERS[name]} (named {name!r})"
            collector.found(Kind.RECORDS, what, f"byte {names[name]:,}")
    collector.columns(list(names), None, "names of datasets and columns")
    chunks = _scan_chunks(window, collector)
    if chunks:
        collector.note(f"{chunks:,} compressed chunks were unpacked and looked through")


def _names(window: Window, collector: Collector) -> dict[str, int]:
    """Return the strings that may be names, with their first places; short ones stand between zero bytes."""
    names: dict[str, int] = {}
    for position, block in window.chunks(OVERLAP):
        collector.budget.tick()
        for match in NAME.finditer(block):
            if len(names) < 100_000:
                names.setdefault(match.group().decode("ascii"), position + match.start())
    return names


def _scan_chunks(window: Window, collector: Collector) -> int:
    """Unpack every zlib stream of some size and report the strings in it; return how many there were."""
    found, next_free = 0, 0
    for position, block in window.chunks(2):
        for match in ZLIB.finditer(block):
            start = position + match.start()
            if start < next_free:
                continue
            collector.budget.tick()
            length = _scan_stream(window, start, collector)
            if length:
                found, next_free = found + 1, start + length
    return found


def _scan_stream(window: Window, start: int, collector: Collector) -> int:
    """Report the strings of the stream at ``start``; return its length in the file, 0 if it is none."""
    inflater, position, text = zlib.decompressobj(), start, b""
    size = 0
    while position < window.end and not inflater.eof and size < LONGEST_STREAM:
        window.position = position
        block = window.peek(1 << 16)
        try:
            out = inflater.decompress(block, MEBIBYTE)
            while inflater.unconsumed_tail and size < LONGEST_STREAM:
                collector.budget.expand(len(out))
                size += len(out)
                _report(text[-OVERLAP:] + out, start, collector)
                text, out = out, inflater.decompress(inflater.unconsumed_tail, MEBIBYTE)
        except zlib.error:
            return 0
        collector.budget.expand(len(out))
        size += len(out)
        if size >= SMALLEST:
            _report(text[-OVERLAP:] + out, start, collector)
        text = out
        position += len(block)
    if size >= LONGEST_STREAM and not inflater.eof:
        collector.fault(f"of the chunk at byte {start:,} only the first {LONGEST_STREAM >> 20} MiB were read")
        return position - start
    return position - start - len(inflater.unused_data) if inflater.eof and size >= SMALLEST else 0


def _report(content: bytes, start: int, collector: Collector) -> None:
    for run in re.findall(rb"[\t\x20-\x7e]{7,}", content):
        collector.text(run.decode("ascii"), f"chunk at byte {start:,}", key=False)
