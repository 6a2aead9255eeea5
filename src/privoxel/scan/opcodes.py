"""A pickle as a list of opcodes, read without running any of them.

Arguments are found by the widths that ``pickletools`` states; none is decoded here, so that a claimed
length of terabytes costs nothing.
"""

import pickletools
import struct
from collections.abc import Iterator
from typing import NamedTuple

from privoxel.scan.limits import UnreadableError
from privoxel.scan.window import Window

_PREFIX = {
    pickletools.TAKEN_FROM_ARGUMENT1: "<B",
    pickletools.TAKEN_FROM_ARGUMENT4: "<i",
    pickletools.TAKEN_FROM_ARGUMENT4U: "<I",
    pickletools.TAKEN_FROM_ARGUMENT8U: "<Q",
}
_BY_CODE = {
    opcode.code.encode("latin-1"): (opcode.name, 0 if opcode.arg is None else opcode.arg.n)
    for opcode in pickletools.opcodes
}
_PAIRS = frozenset({"GLOBAL", "INST"})


class Opcode(NamedTuple):
    """One opcode: its name, its byte, and where its argument lies; ``lines`` holds textual arguments."""

    name: str
    position: int
    start: int
    length: int
    lines: tuple[bytes, ...] = ()


def opcodes(window: Window) -> Iterator[Opcode]:
    """Yield the opcodes of one pickle, up to its STOP; the window then stands behind the last one yielded.

    Raises:
        UnreadableError: if a byte is no opcode, or an argument does not lie in the file.
    """
    while True:
        position = window.position
        code = window.take(1)
        if code not in _BY_CODE:
            raise UnreadableError(f"it is no pickle: byte {position:,} is no opcode")
        name, width = _BY_CODE[code]
        lines: tuple[bytes, ...] = ()
        if width == pickletools.UP_TO_NEWLINE:
            lines = tuple(window.line() for _ in range(2 if name in _PAIRS else 1))
            start, length = position + 1, window.position - position - 1
        else:
            length = width
            if width in _PREFIX:
                prefix = _PREFIX[width]
                (length,) = struct.unpack(prefix, window.take(struct.calcsize(prefix)))
            start = window.skip(length)
        yield Opcode(name, position, start, length, lines)
        if name == "STOP":
            return
