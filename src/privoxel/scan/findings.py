"""What a scan of an artefact says: findings with their place, notes, and what could not be read."""

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple


class Kind(StrEnum):
    """What was found; the value is what tables and files print."""

    IDENTIFIER = "identifier"
    TABLE = "table"
    RECORDS = "training records"
    PATH = "file path"
    EMAIL = "e-mail address"
    OPTIMISER = "optimiser state"
    CODE = "dangerous code"
    ARCHIVE = "unsafe archive"


class Finding(NamedTuple):
    """Equal findings in one place of an artefact.

    ``member``: file within the artefact; "" is the artefact itself, "!" separates nested archives.
    ``where``: byte offset, or the key, of the first one. ``example``: the first one, redacted. ``times``: how
    often; ``distinct``: different ones, 0 where that makes no sense.
    """

    kind: Kind
    what: str
    member: str
    where: str
    example: str
    times: int
    distinct: int


class ArtefactScan(NamedTuple):
    """One scanned file: what it is, what was found, and what kept the scan from seeing all of it."""

    path: Path
    form: str
    size: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def outcome(self) -> str:
        """``found``, ``unread`` (nothing found, but parts could not be read) or ``clean``."""
        if self.findings:
            return "found"
        return "unread" if self.faults else "clean"
