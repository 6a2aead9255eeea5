"""``.safetensors`` files: a JSON header with names, types and places, then raw tensors."""

import json
import struct
from typing import Any

from privoxel.scan.arrays import array_type, column_of
from privoxel.scan.collector import Collector
from privoxel.scan.limits import UnreadableError
from privoxel.scan.machine import Blob
from privoxel.scan.texts import scan_json
from privoxel.scan.window import Window

CODES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1"}
CODES |= {"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1"}


def looks_like_safetensors(window: Window) -> bool:
    """Return whether the file begins with the length of a JSON header that fits into it."""
    head = window.peek(9)
    if len(head) < 9 or head[8:9] != b"{":
        return False
    return 2 <= int(struct.unpack("<Q", head[:8])[0]) <= window.remaining - 8


def scan_safetensors(window: Window, collector: Collector) -> None:
    """Report names, metadata and named tensors.

    Raises:
        UnreadableError: if the header is too long or no JSON, or a tensor lies outside the file.
    """
    (length,) = struct.unpack("<Q", window.take(8))
    if length > collector.budget.limits.text:
        raise UnreadableError(f"its header claims {length:,} bytes")
    content = window.take(length)
    try:
        header: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("its header is not JSON") from error
    if not isinstance(header, dict):
        raise UnreadableError("its header is not a mapping of names")
    collector.text(content.decode("utf-8", "replace"), window.start + 8, key=False)
    metadata = header.get("__metadata__")
    for value in metadata.values() if isinstance(metadata, dict) else ():
        if isinstance(value, str) and value[:1] in "{[":
            scan_json(value.encode(), collector)
    begin = window.position
    for name, tensor in header.items():
        if name != "__metadata__" and isinstance(tensor, dict):
            _tensor(window, collector, begin, name, tensor)


def _tensor(window: Window, collector: Collector, begin: int, name: str, tensor: dict[str, Any]) -> None:
    kind, offsets = array_type(CODES.get(str(tensor.get("dtype")), "")), tensor.get("data_offsets")
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(isinstance(n, int) for n in offsets)):
        collector.fault(f"tensor {name[:80]!r} has no place in the file")
        return
    start, stop = offsets
    if not 0 <= start <= stop <= window.end - begin:
        collector.fault(f"tensor {name[:80]!r} lies outside the file")
        return
    collector.text(name, f"key {name[:80]!r}")
    if kind is not None:
        blob = Blob(begin + start, stop - start)
        collector.entry(name, column_of(window, blob, kind), f"byte {blob.start:,}")
