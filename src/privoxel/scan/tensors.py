"""Tensors of PyTorch files: the pickle says names and shapes, the numbers lie in storages behind it."""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, product
from typing import NamedTuple, final

import numpy as np

from privoxel.scan.arrays import SAMPLE, shape_of
from privoxel.scan.collector import Collector
from privoxel.scan.machine import Called, Import, Many, Persistent
from privoxel.scan.roles import FEWEST_VALUES, Role, role_of
from privoxel.scan.window import Window

MOST_NAMED = 10_000
_TYPES = {"Double": "<f8", "Float": "<f4", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Short": "<i2"}
_TYPES |= {"Char": "<i1", "Byte": "<u1", "BFloat16": "<u2"}


class Tensor(NamedTuple):
    """A tensor as its pickle describes it: where in which storage its numbers lie."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers it has, as its pickle claims."""
        return math.prod(self.shape)


class _Wanted(NamedTuple):
    name: str
    tensor: Tensor
    member: str
    where: str


@final
@dataclass
class Storages:
    """What the pickles of one file say of its storages, by key: types, items, and tensors to be read."""

    types: dict[str, str] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    _wanted: dict[str, list[_Wanted]] = field(default_factory=dict)

    def refer(self, key: object) -> None:
        """Take note of a reference: PyTorch's is ("storage", type, key, device, items)."""
        parts = key.items if isinstance(key, Many) else []
        if len(parts) >= 3 and isinstance(parts[1], Import):
            self.types[str(parts[2])] = parts[1].name
            if len(parts) > 4 and isinstance(parts[4], int):
                self.items[str(parts[2])] = parts[4]

    def want(self, name: str, tensor: Tensor, collector: Collector, where: str) -> None:
        """Take note that the numbers of a tensor are to be looked at once its storage comes up."""
        telling = role_of(name) is Role.AGE and tensor.size >= FEWEST_VALUES
        if telling and self.dtype(tensor.storage) and len(self._wanted) < MOST_NAMED:
            held = self._wanted.setdefault(tensor.storage, [])
            held.append(_Wanted(name, tensor, collector.member, where))

    def is_wanted(self, key: str) -> bool:
        """Return whether a tensor of this storage is to be looked at."""
        return key in self._wanted

    def dtype(self, key: str) -> np.dtype[np.generic] | None:
        """Return NumPy's type of a storage's items, None where it is none of numbers."""
        kind = self.types.get(key, "").rpartition(".")[2].removesuffix("Storage")
        return np.dtype(_TYPES[kind]) if kind in _TYPES else None

    def read(self, key: str, window: Window, collector: Collector) -> None:
        """Report the tensors to be looked at in one storage, whose bytes the window holds."""
        dtype = self.dtype(key)
        if dtype is None:
            return
        for name, tensor, member, where in self._wanted.pop(key, []):
            raw = b"".join(
                window.read_at(window.start + place * dtype.itemsize, dtype.itemsize)
                for place in islice(_places(tensor), SAMPLE)
            )
            numbers = np.frombuffer(raw[: len(raw) // dtype.itemsize * dtype.itemsize], dtype)
            if "BFloat16" in self.types[key]:  # the upper half of a float32
                numbers = (numbers.astype("<u4") << 16).view("<f4")
            reading, collector.member = collector.member, member
            collector.ages(name, tensor.size, tuple(map(float, numbers)), where)
            collector.member = reading

    def read_behind(self, window: Window, collector: Collector) -> None:
        """Report the tensors of PyTorch's older format, whose storages follow the pickles by order of key.

        Each is its number of items in eight bytes, then the items; the reading ends where that is not so.
        """
        if not self._wanted:
            return
        position = window.position
        for key in sorted(self.types):
            dtype, count = self.dtype(key), self.items.get(key)
            header = window.read_at(position, 8)
            if dtype is None or count is None or struct.pack("<q", count) != header:
                break
            position += 8
            if count > (window.end - position) // dtype.itemsize:
                break
            self.read(key, window.part(position, count * dtype.itemsize), collector)
            position += count * dtype.itemsize


def tensor_of(value: object) -> Tensor | None:
    """Return a tensor or a parameter that a pickle rebuilds, None for anything else.

    Its storage is "" where it lies elsewhere than in a PyTorch file, as in a plain pickle.
    """
    if not isinstance(value, Called) or not value.name.startswith("torch._utils._rebuild"):
        return None
    items = value.arguments.items if isinstance(value.arguments, Many) else []
    if value.name.endswith(("_rebuild_parameter", "_rebuild_parameter_with_state")):
        return tensor_of(items[0]) if items and items[0] is not value else None
    if len(items) < 4:
        return None
    key = items[0].key if isinstance(items[0], Persistent) else None
    reference = key.items if isinstance(key, Many) else []
    offset = items[1] if isinstance(items[1], int) and items[1] >= 0 else 0
    shape, strides = shape_of(items[2]), shape_of(items[3])
    storage = str(reference[2]) if len(reference) > 2 else ""
    return Tensor(storage, offset, shape, strides) if len(shape) == len(strides) else None


def _places(tensor: Tensor) -> Iterator[int]:
    """Yield the places of a tensor's numbers in its storage, the last axis running fastest.

    ``product`` would hold its axes in memory, so only as much of each is walked as a sample needs.
    """
    axes = [range(min(length, SAMPLE)) for length in tensor.shape]
    for index in product(*axes):
        yield tensor.offset + sum(i * step for i, step in zip(index, tensor.strides, strict=True))
