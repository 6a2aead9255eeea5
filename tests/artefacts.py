"""Model files made in the test, with and without records of people. Nobody in them is real."""

import gzip
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


def unpacked(text: str) -> bytes:
    """Return a file that was packed into text."""
    return gzip.decompress(bytes.fromhex(text))


H5PY_FILE = unpacked(
    """
1f8b0800000000000203ed9abf6fd34014c7efecba3da554b86a87fe58ac4c96108d8722010b416da8d59f6e6160a28dc835
316a9a8844a53f84d409958d0121c62c95f80350e78c2c5dcac6d401fe8e60dfbd7362d34408106ae17d3c7cf5de9dcff6f3
bb3bf9c9afddd90743a9891409618cf4119374d2021c276eabf60d500a7a04fa41537e5db48d81df84f1ed016997c0ff682d
970b7bb712a8eb9c1b526d82fc8fb8b9fb5ea88fc1be0dfa498bf7ab54eb7ed9dfe7cfd75f70bf58aad7c09f2f72a135be2b
d42fd462796b75b92e15473b7f87217f5d1df2d7e8cc5fd2357f11ccdfcefc656abd3492f926f1fed0751f2eafccd260558f
f27bac777f47cd8789defdd4fd5b7afcbe93f342add7e6f8d57e7f6ade27f7b76bc485e71f22a34154ca9502df5a7f5ad9de
f48ba17f9c5271a619c588fdb8eeb0780cff2673332b8b94c00d5eb01e1ea46bf91d5e48dfb5d29952a5cc33cff2db3c239e
72aaba977ea9c6695ec7398e2008822008822008822097154a0cf9cd4f952d0b44944a470afa29d583f6b065d8ba07658b2c
991e24d32da8fb1881376cd7344d0cc0603c9daa9242b2b27574c5e3618aae2623513c7ac7c1eb12873797343ffa7bc643d5
f7ec281ef2b947a88c4714075dc6613048032ace57e33151612ff0cdad7c9d933e18278a97a6a9b16dd22e3b065471f22208
82fc2ecd65b96935e6a41eae4a6d2e80ed493d77a56697a47a6b59d8cb40e7b3ed7d23b98ffc9abdfbe4c6d4d2d92dc7d9b0
fb3fbff2beb0f9c9197fc42ea78e4f1b1fefbc3d393c7be7ed7f7d3f408ebfad9ee29b44100441909f22fc6f895ef0dfddcd
2efd1b56dcb6a3ef350441100441fe55be0333ffb2b130300000
"""
)
"""A file by h5py 3.16: an optimiser group, a path, columns age and sex, and ids in a compressed chunk."""

ONNX_FILE = unpacked(
    """
1f8b0800000000000203e3e0b37ac9c465c3c558c1c59d9c9f57a6579e9a999e5122c458a9c41c5c9a64a4e4969993aaa0a4
9f919f9baa9f959897aa5f52949899a75750a9a4a390939997aa602cc498ae65c9c1ccc12cc0e8846c86970abf4fd0fe3b0f
0edbcf7af1c24ebcbd699f8f6cd43ee5d049fbcd1a7bf6279b04d87b44ecb2d38ae1e012e07662494c4f2df60a600081037e
0e607a813b846e0884d007bca1fc0008fdc003423bf842e8802008cd009567f072d04a069ace61c45e5c9aa46b6060006318
c218463086318c61026398c218663086398c610163583a3167a614470903834f888f8b87835188838b8983198493808295e8
824e4c0232009baba80472010000
"""
)
"""A model by onnx 1.23: a path in a node, ages and ids among its initialisers."""

RDS_FILE = unpacked(
    """
1f8b08000000000002038be0626060606260626600630666611001c47c40cce5e0778001041cdc1740e8c00608ed0d150f80
f23d1e40685f07081d1400956780d05e0c30200032978185811348b3179726e91a1818a0720d51b946a85c6354ae092ad714
956b86ca3547e55aa0722dd15cc7e80663f8524d84818509c4800a70a6249624e62426a5e640ad864930a02964cd4bcc4d2d
862a62860a3227a6a742994c992930c1e2d40a34cd5c6589457a605bd04d60c0a0d1ac4dce492c2e46731b17c8d17a694540
17a17ba728bf5c0fd9a5f090844529232c321961d1c8088b404658d431c2228d11165d8cb08862b484f9d7d00048fe0300ac
6758b3bd020000
"""
)
"""A data frame with age, id and sex by pyreadr 0.5."""
