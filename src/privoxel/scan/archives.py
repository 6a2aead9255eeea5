"""Zip and tar archives: their members one after another, names checked, nothing written under a name."""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, cast

from privoxel.scan.collector import Collector
from privoxel.scan.compressed import spool
from privoxel.scan.findings import Kind
from privoxel.scan.limits import MEBIBYTE, UnreadableError
from privoxel.scan.names import leaves_folder
from privoxel.scan.roles import RECORD_HOLDERS, is_optimiser
from privoxel.scan.window import Window

Visit = Callable[[Window, str], None]
"""Called with the bytes of a member and its name."""

LONGEST_DIRECTORY = 256 * MEBIBYTE
ENCRYPTED = 0x1
READ_ERRORS = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


class _File:
    """A window as a file object, for readers that want one."""

    def __init__(self, window: Window) -> None:
        self._window = window

    def read(self, length: int | None = -1) -> bytes:
        window = self._window
        wanted = window.remaining if length is None or length < 0 else min(length, window.remaining)
        if wanted > LONGEST_DIRECTORY:
            raise UnreadableError(f"it claims a directory of {wanted:,} bytes")
        return window.take(wanted)

    def seek(self, offset: int, whence: int = 0) -> int:
        window = self._window
        base = {0: window.start, 1: window.position, 2: window.end}[whence]
        if not window.start <= base + offset:
            raise OSError("before the file's first byte")
        window.position = min(base + offset, window.end)
        return window.position - window.start

    def tell(self) -> int:
        return self._window.position - self._window.start

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        """The window's owner closes the file."""


def scan_zip(
    window: Window,
    collector: Collector,
    visit: Visit,
    *,
    order: Callable[[str], int],
    skip: Callable[[str], bool],
) -> None:
    """Visit every member of a zip archive, by ``order`` of their names; a damaged one is a fault.

    ``skip`` is asked right before a member's turn.

    Raises:
        UnreadableError: if its directory cannot be read.
        ScanStoppedError: if a limit is reached.
    """
    try:
        archive = zipfile.ZipFile(cast("IO[bytes]", _File(window)))
    except READ_ERRORS as error:
        raise UnreadableError(f"it is a damaged zip archive ({type(error).__name__})") from error
    with archive:
        for entry in sorted(archive.infolist(), key=lambda entry: order(entry.filename)):
            collector.budget.member()
            _check_name(entry.filename, collector)
            if stat.S_ISLNK(entry.external_attr >> 16):
                collector.found(Kind.ARCHIVE, "symbolic link", f"directory, {entry.filename[:60]!r}")
            if entry.is_dir() or skip(entry.filename):
                continue
            if entry.flag_bits & ENCRYPTED:
                collector.fault(f"{entry.filename[:80]!r} is encrypted")
                continue
            try:
                with archive.open(entry) as stream:
                    _visit(stream, entry.filename, collector, visit)
            except (*READ_ERRORS, UnreadableError) as error:
                collector.fault(f"{entry.filename[:80]!r} cannot be read ({type(error).__name__})")


def scan_tar(window: Window, collector: Collector, visit: Visit) -> None:
    """Visit every file of a tar archive.

    Raises:
        UnreadableError: if it is damaged; what came before is reported.
        ScanStoppedError: if a limit is reached.
    """
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", _File(window)), mode="r:") as archive:
            for entry in archive:
                collector.budget.member()
                _check_name(entry.name, collector)
                if entry.issym() or entry.islnk():
                    target = "outside its folder" if leaves_folder(entry.linkname) else "in it"
                    collector.found(Kind.ARCHIVE, f"link to a file {target}", f"byte {entry.offset:,}")
                stream = archive.extractfile(entry) if entry.isreg() else None
                if stream is not None:
                    _visit(stream, entry.name, collector, visit)
    except (tarfile.TarError, *READ_ERRORS) as error:
        raise UnreadableError(f"it is a damaged tar archive ({type(error).__name__})") from error


def _check_name(name: str, collector: Collector) -> None:
    if leaves_folder(name):
        collector.found(Kind.ARCHIVE, "file name that leaves the folder it is unpacked in", "directory")
    collector.text(name, "directory", key=False)
    plain = name.removesuffix(".npy")
    if is_optimiser(plain):
        collector.found(Kind.OPTIMISER, "state of an optimiser", "directory", example=plain[-60:])
    if plain.rsplit("/", 1)[-1] in RECORD_HOLDERS:
        collector.found(Kind.RECORDS, RECORD_HOLDERS[plain.rsplit("/", 1)[-1]], "directory")


def _visit(stream: IO[bytes], name: str, collector: Collector, visit: Visit) -> None:
    """Copy a member to a temporary file within the limits, and visit it."""
    with spool() as copy:
        while block := stream.read(MEBIBYTE):
            collector.budget.expand(len(block))
            copy.write(block)
        visit(Window(copy), name)
