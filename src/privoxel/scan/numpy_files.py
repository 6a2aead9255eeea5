"""``.npy`` files: a short header in text, then the values; objects are a pickle."""

import ast
import struct

from privoxel.scan.arrays import array_type, bytes_of, column_of, scan_strings
from privoxel.scan.collector import Collector
from privoxel.scan.limits import UnreadableError
from privoxel.scan.machine import Blob
from privoxel.scan.pickles import scan_pickles
from privoxel.scan.texts import scan_binary
from privoxel.scan.window import Window

MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 1 << 16


def scan_npy(window: Window, collector: Collector, name: str) -> None:
    """Report one array; ``name`` is that of its file without its suffix.

    Raises:
        UnreadableError: if it is cut off or its header is none.
    """
    window.skip(len(MAGIC))
    major, _ = window.take(2)
    prefix = "<H" if major == 1 else "<I"
    (length,) = struct.unpack(prefix, window.take(struct.calcsize(prefix)))
    if length > LONGEST_HEADER:
        raise UnreadableError(f"its header claims {length:,} bytes")
    header = _header(window.take(length))
    description, shape = header.get("descr"), header.get("shape")
    if isinstance(description, list):
        names = [field[0] for field in description if isinstance(field, tuple) and field]
        for field in names:
            collector.text(str(field), "header")
        rows = shape[0] if isinstance(shape, tuple) and shape and isinstance(shape[0], int) else None
        collector.columns([str(field) for field in names], rows, "header")
        scan_binary(window.part(window.position, window.remaining), collector)
        return
    kind = array_type(description)
    if kind is None:
        collector.note("its type of values is not known; only strings were looked for")
        scan_binary(window.part(window.position, window.remaining), collector)
    elif kind.kind == "O":
        scan_pickles(window, collector)
    else:
        sizes = tuple(n for n in shape if isinstance(n, int) and n >= 0) if isinstance(shape, tuple) else ()
        blob = Blob(window.skip(bytes_of(kind, sizes)), bytes_of(kind, sizes))
        collector.entry(name, column_of(window, blob, kind), f"byte {blob.start:,}")
        if kind.is_text:
            scan_strings(window, blob, kind, collector)


def _header(text: bytes) -> dict[str, object]:
    try:
        found = ast.literal_eval(text.decode("latin-1").strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise UnreadableError("its header is not that of an array") from error
    if not isinstance(found, dict):
        raise UnreadableError("its header is not that of an array")
    return found
