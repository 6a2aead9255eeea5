"""NumPy arrays as pickles and ``.npy`` files describe them: type, size, and a few of their numbers."""

import math
import re
from typing import NamedTuple

import numpy as np

from privoxel.scan.collector import Collector, Column
from privoxel.scan.machine import Blob, Called, Many
from privoxel.scan.texts import scan_binary
from privoxel.scan.window import CHUNK, Window

SAMPLE = 256
LARGEST_ITEM = 1 << 20
_CODE = re.compile(r"[<>|=]?([biufcSUVOMm?])(\d{0,7})")


class ArrayType(NamedTuple):
    """A kind of NumPy's (``f``, ``U``, ``O``...), bytes an item, and the order of bytes."""

    kind: str
    size: int
    order: str = "<"

    @property
    def is_text(self) -> bool:
        """Whether items are strings or records that may hold some."""
        return self.kind in "SUV"

    @property
    def dtype(self) -> np.dtype[np.generic] | None:
        """NumPy's type of numbers; None for others."""
        if self.kind not in "iuf" or self.size not in (1, 2, 4, 8) or (self.kind, self.size) == ("f", 1):
            return None
        return np.dtype(f"{self.order}{self.kind}{self.size}")


def array_type(value: object) -> ArrayType | None:
    """Return the type that a pickled ``dtype`` or a string such as ``<f8`` describes."""
    if isinstance(value, str):
        match = _CODE.fullmatch(value)
        if match is None:
            return None
        kind, digits = match.group(1), match.group(2)
        kind, size = ("b", 1) if kind in "?b" and digits in ("", "1") else (kind, int(digits or 1))
        size *= 4 if kind == "U" else 1
        return ArrayType(kind, size if kind != "O" else 8, ">" if value.startswith(">") else "<")
    if not isinstance(value, Called) or not value.name.endswith("dtype"):
        return None
    arguments = value.arguments.items if isinstance(value.arguments, Many) else []
    found = array_type(arguments[0]) if arguments else None
    state = value.state.items if isinstance(value.state, Many) else []
    if found is None:
        return None
    if len(state) > 5 and isinstance(state[5], int) and state[5] > 0:
        found = found._replace(size=state[5])  # strings and records state their size here
    return found._replace(order=">" if len(state) > 1 and state[1] == ">" else "<")


def field_names(value: object) -> list[str]:
    """Return the names of a pickled record type's fields."""
    if not isinstance(value, Called) or not isinstance(value.state, Many):
        return []
    names = value.state.items[3] if len(value.state.items) > 3 else None
    return [name for name in names.items if isinstance(name, str)] if isinstance(names, Many) else []


def shape_of(value: object) -> tuple[int, ...]:
    """Return a pickled shape; () where it is none."""
    items = value.items if isinstance(value, Many) else []
    return tuple(int(item) for item in items if isinstance(item, int) and item >= 0)


def bytes_of(kind: ArrayType, shape: tuple[int, ...]) -> int:
    """Return how many bytes an array takes, as it claims."""
    return math.prod(shape) * kind.size


def numbers_in(raw: bytes, kind: ArrayType) -> tuple[float, ...]:
    """Return the first numbers among the bytes of an array; nothing where it holds none."""
    dtype = kind.dtype
    if dtype is None:
        return ()
    count = min(len(raw) // dtype.itemsize, SAMPLE)
    numbers = np.frombuffer(raw, dtype=dtype, count=count).astype(np.float64)
    return tuple(numbers.tolist()) if np.isfinite(numbers).all() else ()


def column_of(window: Window, values: Blob | bytes, kind: ArrayType) -> Column:
    """Return an array, whose bytes are given or lie in the file, as a column of values."""
    size = max(kind.size, 1)
    if isinstance(values, bytes):
        return Column(len(values) // size, numbers_in(values, kind))
    raw = window.part(*values).peek(min(values.length, SAMPLE * size))
    return Column(values.length // size, numbers_in(raw, kind))


def scan_strings(window: Window, blob: Blob, kind: ArrayType, collector: Collector) -> None:
    """Report every item of an array of strings; the strings in one of records or raw bytes."""
    if kind.kind == "V" or not 0 < kind.size <= LARGEST_ITEM:
        scan_binary(window.part(*blob), collector)
        return
    encoding = "latin-1" if kind.kind == "S" else f"utf-32-{'be' if kind.order == '>' else 'le'}"
    step = max(CHUNK // kind.size, 1) * kind.size
    for start in range(blob.start, blob.start + blob.length, step):
        collector.budget.tick()
        length = min(step, blob.start + blob.length - start)
        block = window.part(start, length).peek(length)
        for place in range(0, length, kind.size):
            text = block[place : place + kind.size].decode(encoding, "replace").rstrip("\x00")
            collector.text(text, start + place)
