"""skops files: a zip of ``schema.json``, which says what each array is called, and the arrays themselves.

The schema is read as data. Types are named in it; none is imported or made.
"""

import json
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from privoxel.scan.collector import Collector, Column, numbers_of
from privoxel.scan.limits import UnreadableError
from privoxel.scan.records import scan_records
from privoxel.scan.roles import RECORD_HOLDERS, is_optimiser, role_of
from privoxel.scan.window import Window

SCHEMA = "schema.json"
MARK = b'"__loader__"'


def scan_schema(window: Window, inner: str, collector: Collector) -> dict[str, str]:
    """Report the values that stand in a schema, and return the telling names of its arrays, by their file.

    ``inner`` is the schema's name within the archive. Empty where it is no schema of skops.

    Raises:
        UnreadableError: if it is too long to be read, or damaged: the arrays then have no names.
    """
    if MARK not in window.peek(4096):
        return {}
    if len(window) > collector.budget.limits.text:
        raise UnreadableError(f"the schema has {len(window):,} bytes; arrays are left without their names")
    try:
        document = json.loads(window.peek(len(window)))
    except (ValueError, RecursionError) as error:
        raise UnreadableError("the schema is damaged; arrays are left without their names") from error
    folder = posixpath.dirname(inner)
    names: dict[str, str] = {}
    for key, node in _named(document):
        collector.budget.tick()
        file = node.get("file")
        if isinstance(file, str):
            if key in RECORD_HOLDERS or role_of(key) is not None or is_optimiser(key):
                names.setdefault(posixpath.join(folder, file), key)
        else:
            _report(key, node, collector)
    return names


def _named(document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every node of the schema with the key it stands under, "" where it stands under none."""
    left: list[tuple[str, Any]] = [("", document)]
    while left:
        key, node = left.pop()
        if not isinstance(node, dict):
            continue
        yield key, node
        content = node.get("content")
        if isinstance(content, dict):
            inside = [("", content)] if "__loader__" in content else list(content.items())
            left += inside
        elif isinstance(content, list):
            left += [("", item) for item in content]


def _report(key: str, node: Mapping[str, Any], collector: Collector) -> None:
    """Report a list of plain values under a name, and a list of records."""
    items = node.get("content")
    if not isinstance(items, list):
        return
    values = [_plain(item) for item in items]
    where = f"key {key[:60]!r}"
    if key:
        collector.entry(key, Column(len(values), numbers_of(values), is_container=bool(values)), where)
    scan_records([value for value in values if isinstance(value, dict)], len(values), collector, where)


def _plain(node: Any) -> object:
    """Return a number, or a mapping of names to numbers; None for anything else."""
    if not isinstance(node, dict):
        return None
    content = node.get("content")
    if node.get("__loader__") == "DictNode" and isinstance(content, dict):
        return {name: _number(inner) for name, inner in content.items()}
    return _number(node)


def _number(node: Any) -> float | None:
    if not isinstance(node, dict) or not node.get("is_json") or not isinstance(node.get("content"), str):
        return None
    try:
        return float(node["content"])
    except ValueError:
        return None
