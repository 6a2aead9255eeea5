"""Scanning released files, one after another: a fault in one keeps no other from being looked at."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from privoxel.scan.collector import Collector
from privoxel.scan.findings import ArtefactScan
from privoxel.scan.limits import Budget, Limits, ScanStoppedError
from privoxel.scan.walk import scan_file
from privoxel.scan.window import Window


def scan_artefact(path: Path, limits: Limits | None = None) -> ArtefactScan:
    """Return what the file at ``path`` gives away about people. Nothing of it is executed or unpickled.

    A file that cannot be read, or not to its end, has faults; what was found until then stands.
    """
    chosen = limits or Limits()
    try:
        if not path.is_file() and path.exists():
            return ArtefactScan(path, "unknown", 0, (), (), ("it is no regular file",))
        size = path.stat().st_size
        with path.open("rb") as file:
            collector = Collector(Budget(chosen, size))
            form = "unknown"
            try:
                form = scan_file(Window(file), path.name, collector) if size else "empty"
            except ScanStoppedError as error:
                collector.member = ""
                collector.fault(f"the scan was stopped: {error}")
            except MemoryError:
                collector.fault("the scan was stopped: it needs more memory than there is")
    except OSError as error:
        fault = f"it cannot be opened ({error.strerror or type(error).__name__})"
        return ArtefactScan(path, "unknown", 0, (), (), (fault,))
    return ArtefactScan(path, form, size, collector.findings(), collector.notes, collector.faults)


def scan_artefacts(paths: Iterable[Path], limits: Limits | None = None) -> Iterator[ArtefactScan]:
    """Yield the scan of every file; of a folder, of every file in it, not following links out of it."""
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
            if not inside:
                yield ArtefactScan(path, "folder", 0, (), (), ("it is a folder without files",))
            yield from (scan_artefact(file, limits) for file in inside)
        else:
            yield scan_artefact(path, limits)
