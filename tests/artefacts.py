"""Model files made in the test, with and without records of people. Nobody in them is real."""

import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

AGES = [61.5, 47.25, 70.0, 55.5, 66.0, 49.75, 58.5, 73.25, 64.0, 52.0]
PEOPLE = [f"sub-{number:03d}" for number in range(10)]


class Evil:
    """An object whose pickle would run a command, were it loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        import os  # noqa: PLC0415 - the pickle imports it

        return os.system, (f"touch {self.marker}",)


def table() -> dict[str, Any]:
    """Return a training table as people put it beside a model."""
    return {"participant_id": PEOPLE, "age": AGES, "sex": ["F", "M"] * 5}


def weights() -> "OrderedDict[str, np.ndarray]":
    """Return the weights of a small network, as NumPy arrays."""
    rng = np.random.default_rng(0)
    return OrderedDict((f"conv{k}.weight", rng.standard_normal((8, 4)).astype(np.float32)) for k in range(3))


def string(number: int, text: bytes) -> bytes:
    """Return a length-delimited field of a protocol buffer."""
    return varint(number << 3 | 2) + varint(len(text)) + text


def varint(value: int) -> bytes:
    """Return an integer as protocol buffers write it."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def onnx(*, nodes: bytes = b"", tensors: bytes = b"", extra: bytes = b"") -> bytes:
    """Return an ONNX model: version, producer, a graph, and what else is given."""
    graph = nodes + string(2, b"main") + tensors
    return varint(1 << 3) + varint(8) + string(2, b"pytorch") + string(7, graph) + extra


def onnx_tensor(name: bytes, values: list[float], *, more: bytes = b"") -> bytes:
    """Return an initialiser of float32 values, as a field of a graph."""
    raw = struct.pack(f"<{len(values)}f", *values)
    dims = varint(1 << 3) + varint(len(values))
    return string(5, dims + varint(2 << 3) + varint(1) + string(8, name) + string(9, raw) + more)


class R:
    """Writes R's XDR serialisation, item by item, as ``serialize.c`` does."""

    NIL = struct.pack(">i", 254)

    @staticmethod
    def chars(text: str) -> bytes:
        return struct.pack(">ii", 0x40009, len(text)) + text.encode()

    @classmethod
    def strings(cls, texts: list[str]) -> bytes:
        return struct.pack(">ii", 16, len(texts)) + b"".join(map(cls.chars, texts))

    @staticmethod
    def reals(values: list[float]) -> bytes:
        return struct.pack(f">ii{len(values)}d", 14, len(values), *values)

    @classmethod
    def pair(cls, name: str, value: bytes) -> bytes:
        return struct.pack(">i", 2 | 0x400) + struct.pack(">i", 1) + cls.chars(name) + value

    @classmethod
    def list_of(cls, named: dict[str, bytes], *, more: dict[str, bytes] | None = None) -> bytes:
        """Return a named list with further attributes."""
        flags = 19 | 0x200 | (0x100 if more else 0)
        attributes = cls.pair("names", cls.strings(list(named)))
        attributes += b"".join(cls.pair(name, value) for name, value in (more or {}).items())
        return struct.pack(">ii", flags, len(named)) + b"".join(named.values()) + attributes + cls.NIL

    @classmethod
    def frame(cls, named: dict[str, bytes]) -> bytes:
        return cls.list_of(named, more={"class": cls.strings(["data.frame"])})

    @staticmethod
    def file(item: bytes, *, magic: bytes = b"") -> bytes:
        header = magic + b"X\n" + struct.pack(">iiii", 3, 0x40301, 0x30500, 5) + b"UTF-8"
        return header + item


def torch_zip(path: Path, content: Any, *, protocol: int = 2) -> Path:
    """Write what looks like a PyTorch file: a zip with ``data.pkl`` and one storage."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=protocol))
        archive.writestr("archive/data/0", np.arange(100, dtype=np.float32).tobytes())
        archive.writestr("archive/version", "3\n")
    return path
