"""The run folder: atomic files, a manifest that refuses to mix settings, and finished steps.

``manifest.json`` says what made the folder. A second run with other settings is refused with the
difference shown; with the same settings it continues from the finished steps.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from privoxel.errors import StoreError

MANIFEST = "manifest.json"
ID_KEY = "id-key.hex"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary neighbour of ``path`` that takes its place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` so that readers see all of it or none."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=1, sort_keys=False, allow_nan=False) + "\n")


@final
@dataclass(frozen=True)
class RunFolder:
    """A run's folder. Make one with ``open_run``."""

    path: Path

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of ``manifest.json``."""
        content: dict[str, Any] = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        return content

    @property
    def is_complete(self) -> bool:
        """Whether the run reached its end."""
        return bool(self.manifest.get("complete"))

    def record(self, **entries: Any) -> None:
        """Add or replace entries of the manifest."""
        write_json(self.path / MANIFEST, self.manifest | entries)

    def done(self, step: str) -> bool:
        """Return whether ``step`` was finished by this or an earlier call."""
        return step in self.manifest["steps"]

    def finish(self, step: str, **facts: Any) -> None:
        """Mark ``step`` as finished, with facts worth keeping."""
        manifest = self.manifest
        manifest["steps"][step] = facts
        write_json(self.path / MANIFEST, manifest)

    def hashed(self, participant: str) -> str:
        """Return the keyed hash under which ``participant`` may appear in files and logs."""
        try:
            key = bytes.fromhex((self.path / ID_KEY).read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{self.path} needs its {ID_KEY} to go on, got none that can be read. "
                "Restore it, or choose another --output."
            ) from error
        return "p-" + hmac.new(key, participant.encode(), hashlib.sha256).hexdigest()[:12]


def open_run(path: Path, settings: Mapping[str, Any], *, resume: bool, facts: Mapping[str, Any]) -> RunFolder:
    """Start a run in ``path``, or continue the one that is there.

    ``settings`` decide whether it is the same run; ``facts`` (versions, machine) are only recorded.

    Raises:
        StoreError: if the folder holds a run and ``resume`` is false, a run with other settings, or other
        files.
    """
    folder = RunFolder(path)
    if (path / MANIFEST).exists():
        _check_same(folder, settings, resume=resume)
        return folder
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path} needs to be a folder, got a file. Choose another --output.")
    if path.exists() and any(entry.name != ID_KEY for entry in path.iterdir()):
        raise StoreError(
            f"{path} needs to be an empty or new folder, got one with other files. Choose another --output."
        )
    path.mkdir(parents=True, exist_ok=True)
    key_file = path / ID_KEY
    key_file.touch(mode=0o600)
    key_file.write_text(secrets.token_hex(32), encoding="ascii")
    write_json(path / MANIFEST, {"settings": dict(settings), **facts, "steps": {}, "complete": False})
    return folder


def _check_same(folder: RunFolder, settings: Mapping[str, Any], *, resume: bool) -> None:
    stored = folder.manifest["settings"]
    changes = list(differences(stored, json.loads(json.dumps(settings))))
    if changes:
        listed = "\n".join(f"  - {change}" for change in changes)
        raise StoreError(
            f"{folder.path} holds a run with other settings:\n{listed}\n"
            "Restore these settings, remove the folder, or choose another --output."
        )
    if not resume:
        raise StoreError(
            f"{folder.path} holds a {'finished' if folder.is_complete else 'started'} run of these settings. "
            "Continue it with --resume, or choose another --output."
        )


def differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """Yield one line for every setting that differs between two nested mappings."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted(set(old) | set(new)):
            inner = f"{key}.{name}" if key else str(name)
            yield from differences(old.get(name, "(unset)"), new.get(name, "(unset)"), inner)
    elif old != new:
        yield f"{key}: the folder has {old!r}, now {new!r}"
