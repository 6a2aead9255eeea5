"""ONNX files: the protocol-buffer wire format, walked by the field numbers of ``onnx.proto``.

Only names, documentation, metadata, string tensors and the places of external data matter here; weights are
passed over. A field that does not fit is left; lengths are checked against what is there.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from privoxel.scan.arrays import ArrayType, column_of
from privoxel.scan.collector import Collector, Column
from privoxel.scan.findings import Kind
from privoxel.scan.limits import UnreadableError
from privoxel.scan.machine import Blob
from privoxel.scan.names import leaves_folder
from privoxel.scan.texts import scan_binary
from privoxel.scan.window import Window

DEEPEST = 40
VARINT, FIXED_8, LENGTH, FIXED_4 = 0, 1, 2, 5
TEXT = "text"
TYPES = {
    1: ArrayType("f", 4),
    3: ArrayType("i", 1),
    6: ArrayType("i", 4),
    7: ArrayType("i", 8),
    11: ArrayType("f", 8),
}
STRING_TENSOR = 8
SCHEMA: Mapping[str, Mapping[int, str]] = {
    "model": {2: TEXT, 3: TEXT, 4: TEXT, 6: TEXT, 7: "graph", 14: "pair", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph", 3: "pair", 4: "pair"},
    "function": {1: TEXT, 4: TEXT, 5: TEXT, 6: TEXT, 7: "node", 8: TEXT, 10: TEXT, 14: "pair"},
    "graph": {
        1: "node",
        2: TEXT,
        5: "tensor",
        10: TEXT,
        11: "value",
        12: "value",
        13: "value",
        15: "sparse",
        16: "pair",
    },
    "node": {1: TEXT, 2: TEXT, 3: TEXT, 5: "attribute", 6: TEXT, 7: TEXT, 9: "pair"},
    "attribute": {
        1: TEXT,
        4: TEXT,
        5: "tensor",
        6: "graph",
        9: TEXT,
        10: "tensor",
        11: "graph",
        13: TEXT,
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "value": {1: TEXT, 3: TEXT, 4: "pair"},
    "pair": {1: TEXT, 2: TEXT},
}


class Field(NamedTuple):
    """One field of a message: number, wire type, an integer, or the view of its bytes."""

    number: int
    wire: int
    value: int
    view: Window | None


def looks_like_onnx(window: Window) -> bool:
    """Return whether the file begins as an ONNX model does: ir_version, then producer, opset or graph."""
    head = window.peek(3)
    return (
        len(head) == 3
        and head[0] == 0x08
        and 1 <= head[1] <= 30
        and head[2] in (0x12, 0x1A, 0x32, 0x3A, 0x42)
    )


def scan_onnx(window: Window, collector: Collector) -> None:
    """Report the strings of a model, its tensors by name, and where it looks for external data.

    Raises:
        UnreadableError: if it is cut off or no protocol buffer; what came before is reported.
    """
    _walk(window, collector, "model", 0)


def fields(window: Window) -> Iterator[Field]:
    """Yield the fields of one message.

    Raises:
        UnreadableError: if a field does not lie in the message.
    """
    while window.remaining:
        tag = _varint(window)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            yield Field(number, wire, _varint(window), None)
        elif wire in (FIXED_8, FIXED_4):
            size = 8 if wire == FIXED_8 else 4
            yield Field(number, wire, int.from_bytes(window.take(size), "little"), None)
        elif wire == LENGTH:
            length = _varint(window)
            yield Field(number, wire, length, window.part(window.skip(length), length))
        else:
            raise UnreadableError(f"it is no ONNX model: wire type {wire} at byte {window.position:,}")


def _varint(window: Window) -> int:
    value = 0
    for place, byte in enumerate(window.peek(10)):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            window.skip(place + 1)
            return value
    raise UnreadableError(f"it is cut off, or no ONNX model: no number at byte {window.position:,}")


def _walk(window: Window, collector: Collector, kind: str, depth: int) -> None:
    """Report one message of the schema and those within it."""
    if depth > DEEPEST:
        raise UnreadableError(f"its messages are nested deeper than {DEEPEST}")
    collector.budget.tick()
    schema, name = SCHEMA[kind], ""
    for field in fields(window):
        view, inner = field.view, schema.get(field.number)
        if view is None or inner is None:
            continue
        if inner == TEXT:
            text = _text(view, collector)
            name = text if kind == "attribute" and field.number == 1 else name
        elif inner == "tensor":
            _tensor(view, collector)
        else:
            _walk(view, collector, inner, depth + 1)
        view.position = view.end
    if kind == "attribute":
        _numbers_of_attribute(name, Window(window.file, window.start, window.end), collector)


def _text(view: Window, collector: Collector) -> str:
    if len(view) > collector.budget.limits.text:
        scan_binary(view, collector)
        return ""
    text = view.peek(len(view)).decode("utf-8", "replace")
    collector.text(text, view.start)
    return text


def _numbers_of_attribute(name: str, window: Window, collector: Collector) -> None:
    """Report an attribute's list of floats (field 7, packed or not), such as support vectors."""
    packed = repeated = 0
    for field in fields(window):
        if field.number == 7:
            packed += field.value // 4 if field.wire == LENGTH else 0
            repeated += field.wire == FIXED_4
    if name and packed + repeated:
        collector.entry(name, Column(packed + repeated), f"attribute {name[:60]!r}")


def _tensor(view: Window, collector: Collector) -> None:
    """Report a tensor: its name, its strings, its numbers if it is named as ages are, its external file."""
    name, kind, raw, floats = "", 0, None, None
    for field in fields(view):
        if field.number == 2 and field.wire == VARINT:
            kind = field.value
        elif field.view is None:
            continue
        elif field.number in (8, 12):
            text = _text(field.view, collector)
            name = text if field.number == 8 else name
        elif field.number == 6 or (field.number == 9 and kind == STRING_TENSOR):
            _text(field.view, collector)
        elif field.number == 9:
            raw = field.view
        elif field.number == 4:
            floats = field.view
        elif field.number == 13:
            _external(field.view, collector)
    values, form = (floats, TYPES[1]) if raw is None else (raw, TYPES.get(kind))
    if name and values is not None and form is not None:
        blob = Blob(values.start, len(values))
        collector.entry(name, column_of(values, blob, form), f"byte {blob.start:,}")


def _external(view: Window, collector: Collector) -> None:
    texts = {field.number: _text(field.view, collector) for field in fields(view) if field.view is not None}
    if texts.get(1) == "location":
        collector.note(
            f"weights lie in another file ({PurePosixPath(texts.get(2, '')).name[:60]}); scan it too"
        )
        if leaves_folder(texts.get(2, "")):
            collector.found(Kind.ARCHIVE, "external data outside its folder", f"byte {view.start:,}")
