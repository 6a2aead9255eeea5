"""Pickles, joblib files and PyTorch's own format: read opcode by opcode, never loaded.

joblib writes the bytes of arrays between the opcodes, right after the object that describes them; they are
found by that description. PyTorch's older format is several pickles one after another, then raw tensors.
"""

import io
import struct
from typing import final

from privoxel.scan.arrays import array_type, bytes_of, column_of, field_names, scan_strings, shape_of
from privoxel.scan.collector import Collector, Column
from privoxel.scan.columns import column, plain
from privoxel.scan.findings import Kind
from privoxel.scan.imports import is_dangerous, library_of
from privoxel.scan.limits import UnreadableError
from privoxel.scan.machine import ARRANGE, Blob, Called, Import, Many, Persistent, Stack, many
from privoxel.scan.opcodes import Opcode, opcodes
from privoxel.scan.records import record_of, scan_records
from privoxel.scan.roles import FEWEST_VALUES
from privoxel.scan.tensors import Storages, tensor_of
from privoxel.scan.texts import scan_binary
from privoxel.scan.window import Window

TICKS = 1 << 14
LONGEST_STRING = 1 << 16
MOST_BLOBS = 100_000
MOST_LISTS = 1_000
NESTED = 8
LOADED = "torch.storage._load_from_bytes"
PICKLES_OF_OLDER_FORMAT = 4
"""A number, a version, the system, the object; a list of keys and the storages follow."""
TABLES = {
    "pandas.core.frame.DataFrame": "pandas table (DataFrame)",
    "pandas.core.series.Series": "pandas column (Series)",
    "pandas.DataFrame": "pandas table (DataFrame)",  # pandas 3
    "pandas.Series": "pandas column (Series)",
    "anndata._core.anndata.AnnData": "annotated table (AnnData)",
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_INTEGERS = {"BININT": "<i", "BININT1": "<B", "BININT2": "<H"}
_TEXTS = dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), "utf-8")
_TEXTS |= dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), "latin-1")
_TEXTS["UNICODE"] = "raw-unicode-escape"
_BYTES = frozenset({"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"})


def scan_pickles(window: Window, collector: Collector, storages: Storages | None = None) -> None:
    """Report everything in the pickles at the window's place, and in what follows them.

    ``storages`` is told of those that tensors refer to; by default they are looked for behind the pickles.

    Raises:
        UnreadableError: if the first pickle is cut off or no pickle; what came before is reported.
    """
    behind = storages is None
    storages = Storages() if storages is None else storages
    first = window.position
    while window.remaining:
        begin = window.position
        if begin > first and window.peek(1) != b"\x80":
            break
        reader = _Reader(window, collector, storages)
        try:
            reader.read()
        except UnreadableError:
            reader.scan_bytes()
            if begin == first:
                raise
            window.position = begin
            break
        reader.scan_bytes()
    if behind:
        storages.read_behind(window, collector)
    scan_binary(window.part(window.position, window.remaining), collector)


@final
class _Reader:
    """One pickle being read."""

    def __init__(self, window: Window, collector: Collector, storages: Storages, depth: int = 0) -> None:
        self.window = window
        self.collector = collector
        self.storages = storages
        self.depth = depth
        self.stack = Stack()
        self._untyped: dict[int, int] = {}
        self._lists: dict[int, tuple[Many, str]] = {}
        self._inner: dict[str, Window] = {}

    def read(self) -> None:
        """Read up to STOP."""
        for number, opcode in enumerate(opcodes(self.window)):
            if number % TICKS == 0:
                self.collector.budget.tick()
            if not (self._value(opcode) or self._memo(opcode) or self._structure(opcode)):
                self._code(opcode)
        self._scan_lists()

    def scan_bytes(self) -> None:
        """Report the strings in all bytes that are no array of numbers."""
        for start, length in self._untyped.items():
            scan_binary(self.window.part(start, length), self.collector)
        self._untyped = {}

    def _value(self, opcode: Opcode) -> bool:
        """Push a constant, a number, a string or bytes."""
        name, push = opcode.name, self.stack.push
        if name in _CONSTANTS:
            push(_CONSTANTS[name])
        elif name in _INTEGERS:
            push(struct.unpack(_INTEGERS[name], self._argument(opcode))[0])
        elif name == "BINFLOAT":
            push(struct.unpack(">d", self._argument(opcode))[0])
        elif name in ("INT", "LONG", "FLOAT"):
            push(_number(opcode.lines[0]))
        elif name in ("LONG1", "LONG4"):
            push(int.from_bytes(self._argument(opcode), "little", signed=True) if opcode.length <= 8 else 0)
        elif name in _TEXTS:
            push(self._string(opcode))
        elif name in _BYTES:
            if len(self._untyped) >= MOST_BLOBS:
                self.scan_bytes()
            if opcode.length:
                self._untyped[opcode.start] = opcode.length
            push(Blob(opcode.start, opcode.length))
        else:
            return False
        return True

    def _argument(self, opcode: Opcode) -> bytes:
        return self.window.read_at(opcode.start, opcode.length)

    def _string(self, opcode: Opcode) -> object:
        """Report a string and return it; a long one, or one of binary data, stands as its bytes."""
        if opcode.length > LONGEST_STRING:
            scan_binary(self.window.part(opcode.start, opcode.length), self.collector)
            return Blob(opcode.start, opcode.length)
        raw = opcode.lines[0] if opcode.lines else self._argument(opcode)
        text = raw.decode(_TEXTS[opcode.name], "replace")
        self.collector.text(text, opcode.position)
        return text

    def _memo(self, opcode: Opcode) -> bool:
        name = opcode.name
        if name == "MEMOIZE":
            self.stack.remember()
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.stack.remember(self._index(opcode))
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.push(self.stack.recall(self._index(opcode)))
        else:
            return False
        return True

    def _index(self, opcode: Opcode) -> int:
        if opcode.lines:
            return int(_number(opcode.lines[0]))
        return int.from_bytes(self._argument(opcode), "little")

    def _structure(self, opcode: Opcode) -> bool:
        """Carry out what builds lists, tuples and mappings; keys with their values are reported."""
        name, stack = opcode.name, self.stack
        if name in ARRANGE:
            ARRANGE[name](stack)
        elif name == "DICT":
            pairs = stack.pop_to_mark()
            stack.push(Many(is_mapping=True))
            self._add_pairs(pairs, opcode)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            self._add_items([stack.pop()] if name == "APPEND" else stack.pop_to_mark(), opcode)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            self._add_pairs([key, value], opcode)
        elif name == "SETITEMS":
            self._add_pairs(stack.pop_to_mark(), opcode)
        else:
            return False
        return True

    def _add_items(self, items: list[object], opcode: Opcode) -> None:
        target = _container(self.stack.top)
        if target is not None:
            for item in items:
                target.add(item)
            self._list(target, opcode)

    def _list(self, target: Many, opcode: Opcode) -> None:
        """Remember what may be a list of records until it is complete."""
        if target.count >= FEWEST_VALUES and record_of(target.items[-1]) is not None:
            if len(self._lists) >= MOST_LISTS:
                self._scan_lists()
            self._lists.setdefault(id(target), (target, f"byte {opcode.position:,}"))

    def _scan_lists(self) -> None:
        """Report lists and mappings of records."""
        for held, where in self._lists.values():
            records = [record for record in map(record_of, held.items) if record is not None]
            rows = [{name: plain(self.window, value) for name, value in record.items()} for record in records]
            scan_records(rows, held.count, self.collector, where)
        self._lists = {}

    def _add_pairs(self, pairs: list[object], opcode: Opcode) -> None:
        target = _container(self.stack.top)
        for key, value in zip(pairs[::2], pairs[1::2], strict=False):
            if target is not None:
                target.add(value, key)
            self._entry(key, value, opcode)
        if target is not None:
            self._list(target, opcode)

    def _entry(self, key: object, value: object, opcode: Opcode) -> None:
        if not isinstance(key, str):
            return
        where = f"key {key[:60]!r}, byte {opcode.position:,}"
        self.collector.entry(key, column(self.window, value), where)
        tensor = tensor_of(value)
        if tensor is not None:
            self.storages.want(key, tensor, self.collector, where)
            if tensor.storage in self._inner:
                self.storages.read(tensor.storage, self._inner[tensor.storage], self.collector)

    def _code(self, opcode: Opcode) -> None:
        """Take note of imports and calls, without making them."""
        name, stack = opcode.name, self.stack
        if name == "GLOBAL":
            stack.push(self._import(*_named(opcode), opcode))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.push(self._import(module, attribute, opcode))
        elif name == "INST":
            arguments = many(stack.pop_to_mark())
            imported = self._import(*_named(opcode), opcode)
            stack.push(Called(imported, arguments))
        elif name == "OBJ":
            function, *rest = stack.pop_to_mark() or [None]
            stack.push(Called(function, many(rest)))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments_of_call, function = stack.pop(), stack.pop()
            stack.push(self._called(function, arguments_of_call))
        elif name == "NEWOBJ_EX":
            _, positional, function = stack.pop(), stack.pop(), stack.pop()
            stack.push(Called(function, positional))
        elif name == "BUILD":
            self._build(stack.pop(), opcode)
        elif name == "PERSID":
            stack.push(Persistent(opcode.lines[0].decode("utf-8", "replace")))
        elif name == "BINPERSID":
            stack.push(self._persistent(stack.pop()))
        elif name.startswith("EXT"):
            self.collector.found(Kind.CODE, "code by an extension number", f"byte {opcode.position:,}")
            stack.push(None)
        elif name == "NEXT_BUFFER":
            stack.push(None)

    def _import(self, module: object, attribute: object, opcode: Opcode) -> Import:
        where = f"byte {opcode.position:,}"
        if not isinstance(module, str) or not isinstance(attribute, str):
            self.collector.found(Kind.CODE, "import whose name is computed", where)
            return Import("")
        name = f"{module}.{attribute}"
        if is_dangerous(name):
            self.collector.found(Kind.CODE, f"import of {name[:80]}", where)
        elif library_of(name) is None:
            self.collector.note(f"loading it imports {name[:80]}, which is of no library known here")
        if name in TABLES:
            self.collector.table(TABLES[name], where)
        return Import(name)

    def _called(self, function: object, arguments: object) -> Called | bytes | Persistent:
        """Return a call; ``_reconstructor`` and ``__newobj__`` stand for the class they make.

        Protocols up to 2 write bytes as text that is to be encoded; that one call is made.
        """
        made = Called(function, arguments)
        if made.name == "_codecs.encode" and isinstance(arguments, Many) and arguments.items:
            text = arguments.items[0]
            return text.encode("latin-1", "replace") if isinstance(text, str) else made
        if made.name in ("copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj__"):
            first = arguments.items[:1] if isinstance(arguments, Many) else []
            made = Called(first[0] if first else None, arguments)
        if made.name.endswith("_frombuffer") and isinstance(arguments, Many) and len(arguments.items) > 1:
            self._typed(arguments.items[1], arguments.items[0])
        if (
            made.name.endswith("multiarray.scalar")
            and isinstance(arguments, Many)
            and len(arguments.items) > 1
        ):
            self._typed(arguments.items[0], arguments.items[1])
        if made.name == LOADED and isinstance(arguments, Many) and arguments.items:
            return self._storage_in(arguments.items[0]) or made
        return made

    def _storage_in(self, values: object) -> Persistent | None:
        """Return the reference to a storage that stands within a plain pickle, as a file in the older format.

        It is the only one of that file and ends it. Its own names are all PyTorch's.
        """
        if not isinstance(values, Blob) or self.depth >= NESTED:
            return None
        inner, held = self.window.part(*values), Storages()
        try:
            for _ in range(PICKLES_OF_OLDER_FORMAT):
                reader = _Reader(inner, Collector(self.collector.budget), held, self.depth + 1)
                reader.read()
        except UnreadableError:
            return None
        found = next(iter(held.types), "")
        dtype, items = held.dtype(found), held.items.get(found)
        if dtype is None or items is None or not 0 <= items * dtype.itemsize <= values.length:
            return None
        key, length = f"at byte {values.start}", items * dtype.itemsize
        self.storages.types[key], self.storages.items[key] = held.types[found], items
        self._inner[key] = self.window.part(values.start + values.length - length, length)
        return Persistent(many(["storage", Import(held.types[found]), key]))

    def _typed(self, described: object, values: object) -> None:
        """Take bytes that are an array of a known type off the list of those to look through."""
        kind = array_type(described)
        if kind is not None and isinstance(values, Blob):
            self._untyped.pop(values.start, None)
            if kind.is_text:
                scan_strings(self.window, values, kind, self.collector)
        elif kind is not None and isinstance(values, bytes) and kind.is_text:
            scan_strings(Window(io.BytesIO(values)), Blob(0, len(values)), kind, self.collector)

    def _persistent(self, key: object) -> Persistent:
        """Return a reference, of which the storages are told."""
        self.storages.refer(key)
        return Persistent(key)

    def _build(self, state: object, opcode: Opcode) -> None:
        """Give an object its state; report the names in it, and read what joblib put behind it."""
        target = self.stack.top
        if not isinstance(target, Called):
            return
        target.state = state
        names = field_names(target) if target.name.endswith("dtype") else []
        if names:
            self.collector.columns(names, None, f"byte {opcode.position:,}")
        if target.name.endswith("_reconstruct") and isinstance(state, Many) and len(state.items) > 4:
            self._typed(state.items[2], state.items[4])
        elif target.name.endswith("NumpyArrayWrapper") and isinstance(state, Many):
            target.items.add(self._inline_array(state))

    def _inline_array(self, state: Many) -> Column:
        """Move past the bytes of an array that joblib wrote here, and report the strings in it.

        Raises:
            UnreadableError: if its type is not known, so that its end is not either.
        """
        kind, shape = array_type(state.get("dtype")), shape_of(state.get("shape"))
        if kind is None:
            raise UnreadableError(f"joblib's array at byte {self.window.position:,} has an unknown type")
        if kind.kind == "O":
            self._nested()
            return Column(max(bytes_of(kind, shape) // 8, 1))
        if state.get("numpy_array_alignment_bytes") is not None:
            self.window.skip(self.window.take(1)[0])
        begin = self.window.skip(bytes_of(kind, shape))
        blob = Blob(begin, self.window.position - begin)
        if kind.is_text:
            scan_strings(self.window, blob, kind, self.collector)
        return column_of(self.window, blob, kind)

    def _nested(self) -> None:
        if self.depth >= NESTED:
            raise UnreadableError(f"its arrays are nested deeper than {NESTED} pickles")
        inner = _Reader(self.window, self.collector, self.storages, self.depth + 1)
        inner.read()
        inner.scan_bytes()


def _named(opcode: Opcode) -> tuple[str, str]:
    """Return module and name from the two lines of an opcode."""
    module, name = (line.decode("utf-8", "replace") for line in opcode.lines)
    return module, name


def _container(value: object) -> Many | None:
    """Return where items of ``value`` go: itself, or those of an object such as an OrderedDict."""
    if isinstance(value, Called):
        return value.items
    return value if isinstance(value, Many) else None


def _number(line: bytes) -> float:
    text = line.decode("latin-1").strip().rstrip("L")
    try:
        return int(text) if text.lstrip("+-").isdigit() and len(text) < 20 else float(text)
    except ValueError:
        return 0
