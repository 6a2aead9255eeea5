"""R's serialisation (``.rds``, ``.RData``), its XDR form, item by item; nothing is evaluated.

Vectors become their size and first values. Names reach values in two ways: the tags of pairlists (variables
of a workspace, slots of S4 objects, attributes) and the attribute ``names`` of lists and data frames.

References: R Internals, section 1.8 (serialization formats); ``serialize.c`` of R.
"""

import math
import struct
from dataclasses import dataclass, field
from typing import final

from privoxel.scan.collector import Collector, Column
from privoxel.scan.findings import Kind
from privoxel.scan.limits import UnreadableError
from privoxel.scan.window import Window

SAMPLE = 256
DEEPEST = 150
LONGEST_STRING = 1 << 20
NIL = 254
CHARSXP, LISTSXP, SYMSXP, LANGSXP, PROMSXP = 9, 2, 1, 6, 5
PAIRS = frozenset({2, 3, 5, 6, 17})
FIXED = {10: (">i", 4), 13: (">i", 4), 14: (">d", 8), 15: ("", 16), 24: ("", 1)}
MISSING = -(1 << 31)
SINGLE = frozenset({0, 254, 253, 252, 251, 250, 242, 241})
UNBOUND = 252
REFERENCE, PACKAGE, PERSISTENT, NAMESPACE, ALTREP = 255, 248, 247, 249, 238
ENVIRONMENT, SPECIAL, BUILTIN, STRINGS, BYTECODE = 4, 7, 8, 16, 21
EXTERNAL, WEAK, S4 = 22, 23, 25
LISTS = frozenset({19, 20})
CODE_DEFINITION, CODE_REFERENCE, CODE_LANG, CODE_LIST = 244, 243, 240, 239


@final
@dataclass
class Vector:
    """What is known of an R value: its type, size, first numbers or strings, and the values of a list."""

    kind: int
    count: int = 0
    numbers: tuple[float, ...] = ()
    strings: list[str] = field(default_factory=list)
    children: list["Vector"] = field(default_factory=list)

    @property
    def column(self) -> Column:
        """The value as a column of a table."""
        return Column(self.count, self.numbers, is_container=bool(self.children))


def r_header(head: bytes) -> int | None:
    r"""Return the length of the magic before a serialised stream, None where there is none (XDR only).

    >>> r_header(b"RDX3\nX\n"), r_header(b"X\n\x00\x00\x00\x03"), r_header(b"PK")
    (5, 0, None)
    """
    if head[:5] in (b"RDX2\n", b"RDX3\n") and head[5:7] == b"X\n":
        return 5
    return 0 if head[:5] in (b"X\n\0\0\0",) and head[5:6] in (b"\x02", b"\x03") else None


def scan_rdata(window: Window, collector: Collector) -> None:
    """Report the names, strings and vectors of an R file.

    Raises:
        UnreadableError: if it is cut off, or holds what its format does not have; what came before is
        reported.
    """
    window.skip(r_header(window.peek(8)) or 0)
    window.skip(2)
    version, _, _ = struct.unpack(">iii", window.take(12))
    if version == 3:
        window.skip(struct.unpack(">i", window.take(4))[0])
    reader = _Reader(window, collector)
    found = reader.item(0)
    reader.report("value", found)


@final
class _Reader:
    """An R stream being read."""

    def __init__(self, window: Window, collector: Collector) -> None:
        self.window = window
        self.collector = collector
        self.references: list[Vector] = []
        self.items = 0

    def integer(self) -> int:
        return int(struct.unpack(">i", self.window.take(4))[0])

    def length(self) -> int:
        """Return the length of a vector: one integer, or -1 and two more for very long ones."""
        size = self.integer()
        if size == -1:
            size = (self.integer() << 32) + self.integer()
        if size < 0 or size > self.window.remaining:
            raise UnreadableError(
                f"it is cut off: {size:,} values are claimed at byte {self.window.position:,}"
            )
        return size

    def item(self, depth: int) -> Vector:
        """Read one item and return what is known of it."""
        return self.typed(self.integer(), depth)

    def typed(self, flags: int, depth: int) -> Vector:
        """Read the rest of an item whose flags are known."""
        self.items += 1
        if self.items % 4096 == 0:
            self.collector.budget.tick()
        if depth > DEEPEST:
            raise UnreadableError(f"its values are nested deeper than {DEEPEST}")
        kind, has_attributes = flags & 0xFF, bool(flags & 0x200)
        if kind in SINGLE:
            return Vector(kind)
        if kind in PAIRS:
            return self.pairs(flags, depth)
        if kind in FIXED or kind in LISTS or kind in (STRINGS, CHARSXP):
            found = self.vector(kind, depth)
        else:
            found = self.other(kind, flags, depth)
            if kind in (ENVIRONMENT, REFERENCE, SYMSXP, NAMESPACE, PACKAGE, PERSISTENT, ALTREP):
                return found
        if has_attributes:
            self.attributes(found, depth + 1)
        return found

    def vector(self, kind: int, depth: int) -> Vector:
        """Read a vector; of many values only the first are kept."""
        if kind == CHARSXP:
            return self.string()
        size = self.length()
        found = Vector(kind, size)
        if kind in FIXED:
            form, width = FIXED[kind]
            start = self.window.skip(size * width)
            if form:
                raw = self.window.part(start, min(size, SAMPLE) * width).peek(min(size, SAMPLE) * width)
                values = [struct.unpack_from(form, raw, place)[0] for place in range(0, len(raw), width)]
                finite = [float(v) for v in values if math.isfinite(v) and v != MISSING]
                found.numbers = tuple(finite)
            return found
        for _ in range(size):
            child = self.item(depth + 1)
            if len(found.children) < SAMPLE * 16:
                found.children.append(child)
                if kind == STRINGS:
                    found.strings += child.strings
        return found

    def string(self) -> Vector:
        size = self.integer()
        if size < 0:
            return Vector(CHARSXP)
        start = self.window.skip(size)
        text = (
            self.window.part(start, min(size, LONGEST_STRING)).peek(LONGEST_STRING).decode("utf-8", "replace")
        )
        self.collector.text(text, start)
        return Vector(CHARSXP, 1, strings=[text[:200]])

    def pairs(self, flags: int, depth: int) -> Vector:
        """Read a pairlist, a call, a closure or a promise; values with a tag are reported by it."""
        found = Vector(flags & 0xFF)
        while True:
            kind = flags & 0xFF
            if kind not in PAIRS:
                found.children.append(self.typed(flags, depth + 1))
                return found
            if flags & 0x200:
                self.attributes(Vector(kind), depth + 1)
            tag = self.item(depth + 1) if flags & 0x400 else None
            value = self.item(depth + 1)
            if kind == PROMSXP and value.kind == UNBOUND:
                where = f"byte {self.window.position:,}"
                self.collector.found(Kind.CODE, "promise: an expression that R runs when it is used", where)
            if tag is not None and tag.strings and kind == LISTSXP:
                self.report(tag.strings[0], value)
            if len(found.children) < SAMPLE * 16:
                found.children.append(value)
            flags = self.integer()
            if flags & 0xFF == NIL:
                return found

    def attributes(self, owner: Vector, depth: int) -> None:
        """Read the attributes of a value and give its parts their names."""
        flags = self.integer()
        tables = False
        while flags & 0xFF in PAIRS:
            if flags & 0x200:
                self.attributes(Vector(0), depth + 1)
            tag = self.item(depth + 1) if flags & 0x400 else Vector(0)
            value = self.item(depth + 1)
            name = tag.strings[0] if tag.strings else ""
            if name == "names":
                for key, child in zip(value.strings, owner.children, strict=False):
                    self.report(key, child)
            elif name == "class":
                tables = tables or "data.frame" in value.strings
            elif name:
                self.report(name, value)
            flags = self.integer()
        if tables:
            rows = max((child.count for child in owner.children), default=0)
            where = f"value that ends at byte {self.window.position:,}"
            self.collector.table(f"R table (data frame) of {rows:,} lines", where)

    def report(self, name: str, value: Vector) -> None:
        """Report a named value."""
        self.collector.entry(name, value.column, f"name {name[:60]!r}, near byte {self.window.position:,}")

    def other(self, kind: int, flags: int, depth: int) -> Vector:
        """Read symbols, environments, references, code and the rest."""
        if kind == SYMSXP:
            found = self.item(depth + 1)
            self.references.append(found)
            return found
        if kind == REFERENCE:
            index = flags >> 8 or self.integer()
            return self.references[index - 1] if 0 < index <= len(self.references) else Vector(kind)
        found = Vector(kind)
        if kind == ENVIRONMENT:
            self.integer()
            self.references.append(found)
            for _ in range(4):
                self.item(depth + 1)
        elif kind in (NAMESPACE, PACKAGE, PERSISTENT):
            self.integer()
            for _ in range(self.length()):
                self.item(depth + 1)
            self.references.append(found)
        elif kind in (SPECIAL, BUILTIN):
            self.window.skip(self.integer())
        elif kind == ALTREP:
            return self.alternative(depth)
        elif kind == BYTECODE:
            self.bytecode(depth)
        elif kind in (EXTERNAL, WEAK):
            self.references.append(found)
            for _ in range(2 if kind == EXTERNAL else 0):
                self.item(depth + 1)
        elif kind != S4:
            raise UnreadableError(f"it holds an item of unknown type {kind} at byte {self.window.position:,}")
        return found

    def alternative(self, depth: int) -> Vector:
        """Read a compact vector (ALTREP): its class, its state, its attributes; the state is the value."""
        self.item(depth + 1)
        state = self.item(depth + 1)
        self.item(depth + 1)
        return state

    def bytecode(self, depth: int) -> None:
        """Read compiled code."""
        self.integer()
        self._code(depth)

    def _code(self, depth: int) -> None:
        if depth > DEEPEST:
            raise UnreadableError(f"its code is nested deeper than {DEEPEST}")
        self.item(depth + 1)
        for _ in range(self.length()):
            kind = self.integer()
            if kind == BYTECODE:
                self._code(depth + 1)
            elif kind in (LANGSXP, LISTSXP, CODE_DEFINITION, CODE_REFERENCE, CODE_LANG, CODE_LIST):
                self._expression(kind, depth + 1)
            else:
                self.item(depth + 1)

    def _expression(self, kind: int, depth: int) -> None:
        """Read an expression among the constants of compiled code."""
        if depth > DEEPEST:
            raise UnreadableError(f"its code is nested deeper than {DEEPEST}")
        while kind != CODE_REFERENCE:
            if kind == CODE_DEFINITION:
                self.integer()
                kind = self.integer()
            if kind in (CODE_LANG, CODE_LIST):
                self.item(depth + 1)
            elif kind not in (LANGSXP, LISTSXP):
                self.item(depth + 1)
                return
            self.item(depth + 1)
            self._expression(self.integer(), depth + 1)
            kind = self.integer()
        self.integer()
