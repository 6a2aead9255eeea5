"""``privoxel scan``: look into released model files without loading them."""

import json
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privoxel.cli_options import DONE, FINDING, WRONG_USE, AsJson

if TYPE_CHECKING:
    from privoxel.scan import ArtefactScan

MEBIBYTE = 1 << 20


def scan_command(
    artefacts: Annotated[
        list[Path], typer.Argument(help="Model files, archives of them, or folders.", show_default=False)
    ],
    max_depth: Annotated[int, typer.Option(min=0, help="Archives within archives.")] = 4,
    max_unpacked: Annotated[int, typer.Option(min=1, help="MiB that a file may unpack to.")] = 8192,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Seconds that a file may take.")] = 600.0,
    as_json: AsJson = False,
) -> None:
    """Look into model files for records of the people they were trained on.

    Nothing is executed or unpickled. Exit codes: 0 clean, 1 something was
    found, 2 nothing was found but a file could not be read to its end.
    """
    from privoxel.scan import Limits, scan_artefacts

    limits = Limits(depth=max_depth, expanded=max_unpacked * MEBIBYTE, seconds=max_seconds)
    scans = []
    for scan in scan_artefacts(artefacts, limits):
        scans.append(scan)
        if not as_json:
            typer.echo("\n".join(scan_lines(scan)))
    if as_json:
        typer.echo(
            json.dumps({"schema_version": "1.0", "artefacts": [scan_record(s) for s in scans]}, indent=1)
        )
    outcomes = {scan.outcome for scan in scans}
    raise typer.Exit(FINDING if "found" in outcomes else WRONG_USE if "unread" in outcomes else DONE)


def scan_lines(scan: "ArtefactScan") -> list[str]:
    """Return a scan as lines for a reader, at most 80 columns wide where names allow."""
    verdicts = {
        "found": f"{len(scan.findings)} findings",
        "unread": "not read to its end",
        "clean": "nothing found",
    }
    if len(scan.findings) == 1:
        verdicts["found"] = "1 finding"
    lines = [f"{_plain(str(scan.path))}: {verdicts[scan.outcome]} ({scan.form}, {_size(scan.size)})"]
    for finding in scan.findings:
        times = f", {finding.times:,} times" if finding.times > 1 else ""
        different = f", {finding.distinct:,} different" if finding.distinct > 1 else ""
        what = "" if finding.what == finding.kind else f" {_plain(finding.what)}"
        lines.append(f"  [{finding.kind}]{what}{times}{different}")
        example = f": {_plain(finding.example)}" if finding.example else ""
        member = f"{_plain(finding.member)}, " if finding.member else ""
        lines.append(f"      first at {member}{_plain(finding.where)}{example}")
    for said in (*(f"not read: {fault}." for fault in scan.faults), *(f"note: {n}." for n in scan.notes)):
        lines += wrap(_plain(said), 80, initial_indent="  ", subsequent_indent="      ")
    return lines


def scan_record(scan: "ArtefactScan") -> dict[str, Any]:
    """Return a scan as plain values for JSON."""
    return {
        "path": str(scan.path),
        "format": scan.form,
        "bytes": scan.size,
        "outcome": scan.outcome,
        "findings": [finding._asdict() for finding in scan.findings],
        "not_read": list(scan.faults),
        "notes": list(scan.notes),
    }


def _plain(text: str) -> str:
    """Return text that comes from a file without what could steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _size(count: int) -> str:
    return f"{count / MEBIBYTE:,.1f} MiB" if count >= MEBIBYTE else f"{count / 1024:,.1f} KiB"
