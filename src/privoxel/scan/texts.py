"""Strings in plain text, and in binary data whose format is not known: printable runs of bytes.

Runs of wide characters (UTF-16, UTF-32, as NumPy stores text) are found as well.
"""

import csv
import json
import re
from collections.abc import Iterator
from typing import Any

from privoxel.scan.collector import Collector, Column, numbers_of
from privoxel.scan.limits import MEBIBYTE
from privoxel.scan.records import scan_records
from privoxel.scan.window import Window

OVERLAP = 1024
RUN = re.compile(rb"[\t\x20-\x7e]{6,}")
WIDE_RUNS = (
    (re.compile(rb"(?:[\x20-\x7e]\x00){6,}"), "utf-16-le"),
    (re.compile(rb"(?:[\x20-\x7e]\x00\x00\x00){6,}"), "utf-32-le"),
)
TOKEN = re.compile(r"[A-Za-z][\w.-]{1,39}")
HEADER_LINES = 40


def scan_binary(window: Window, collector: Collector, *, names: bool = False) -> None:
    """Report every printable run of ``window``; with ``names`` its words count as names too."""
    seen = window.start
    for position, block in window.chunks(OVERLAP):
        collector.budget.tick()
        for where, text in _runs(position, block):
            collector.text(text, where, key=False, after=seen - where)
            if names:
                for token in TOKEN.findall(text[:400]):
                    collector.text(token, where, after=len(token))
        seen = position + len(block)


def _runs(position: int, block: bytes) -> Iterator[tuple[int, str]]:
    for match in RUN.finditer(block):
        yield position + match.start(), match.group().decode("ascii")
    if b"\x00" not in block:
        return
    for pattern, encoding in WIDE_RUNS:
        for match in pattern.finditer(block):
            yield position + match.start(), match.group().decode(encoding)


def is_text(head: bytes) -> bool:
    """Return whether a file that begins with ``head`` is text."""
    if not head or b"\x00" in head:
        return False
    control = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    return control == 0 and sum(byte >= 128 for byte in head) <= len(head) // 4


def scan_text(window: Window, collector: Collector) -> None:
    """Report the strings of a text file, tables in it, and the columns of a JSON document."""
    seen = window.start
    for position, block in window.chunks(OVERLAP):
        collector.budget.tick()
        collector.text(block.decode("latin-1"), position, key=False, after=seen - position)
        seen = position + len(block)
    first = window.peek(1)
    if first in (b"{", b"[") and len(window) <= collector.budget.limits.text:
        scan_json(window.peek(len(window)), collector)
    else:
        _scan_lines(window, collector)


def scan_json(content: bytes, collector: Collector) -> None:
    """Report the keys of a JSON document with their values; what is no JSON is left to other readers."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return
    left: list[tuple[str, Any]] = [("", document)]
    while left:
        key, value = left.pop()
        collector.budget.tick()
        if isinstance(value, dict):
            for name, inner in value.items():
                path = f"{key}.{name}" if key else name
                collector.text(name, f"key {path[:120]}")
                collector.entry(name, _column(inner), f"key {path[:120]}")
                left.append((path, inner))
        inside = list(value.values()) if isinstance(value, dict) else value
        if isinstance(inside, list):
            records = [item for item in inside if isinstance(item, dict)]
            scan_records(records, len(records), collector, f"key {key[:120]}")
        if isinstance(value, list):
            left += [(key, item) for item in value if isinstance(item, dict | list)]


def _column(value: Any) -> Column:
    if isinstance(value, list):
        return Column(len(value), numbers_of(value), is_container=bool(value))
    return Column(len(value), is_container=bool(value)) if isinstance(value, dict) else Column(1)


def _scan_lines(window: Window, collector: Collector) -> None:
    """Report tables: a line of column names, and the lines below it with as many cells."""
    head = window.peek(4 * MEBIBYTE).decode("utf-8-sig", "replace").splitlines()
    for place, line in enumerate(head[:HEADER_LINES]):
        delimiter = max("\t,;", key=line.count)
        if not line.count(delimiter):
            continue
        names = _cells(line, delimiter)
        rows = 0
        for following in head[place + 1 :]:
            if following.count(delimiter) != line.count(delimiter):
                break
            rows += 1
        collector.columns(names, rows, f"line {place + 1}")


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []
