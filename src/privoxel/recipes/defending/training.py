"""Training and attacking one setting as a job: an ordinary run in a folder of its own.

A setting that is finished there is read and never trained again; one that was interrupted goes on; one that
fails is named, with its traceback kept, and the others do not notice.
"""

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from privoxel.config import RunConfig
from privoxel.errors import JobError
from privoxel.executor import Executor, Job
from privoxel.progress import Progress
from privoxel.recipes.audit import RunOptions, run_audit
from privoxel.recipes.defending.settings import Point
from privoxel.store import MANIFEST, RunFolder, write_text

POINTS, FAILURES = "points", "failures"


@final
@dataclass(frozen=True)
class Scans:
    """Where the scans of all settings come from: the options of a run that say so."""

    cohort: Path | None = None
    root: Path | None = None
    skip_bad: bool = False


@final
@dataclass(frozen=True)
class PointRun:
    """What a worker needs to train and attack one setting; ``failure`` is where a traceback would go."""

    config: RunConfig
    folder: Path
    failure: Path
    scans: Scans


def run_point(run: PointRun) -> dict[str, Any]:
    """Train, attack and report one setting; return its seconds, or what went wrong in one line."""
    started = time.perf_counter()
    options = RunOptions(
        cohort=run.scans.cohort, root=run.scans.root, skip_bad=run.scans.skip_bad, resume=True, workers=1
    )
    try:
        run_audit(run.config, run.folder, options)
    except Exception as error:  # whatever is wrong with one setting must not lose the others
        write_text(run.failure, traceback.format_exc())
        return {"failed": f"{type(error).__name__}: {error}"}
    run.failure.unlink(missing_ok=True)
    return {"seconds": time.perf_counter() - started}


def is_finished(folder: Path) -> bool:
    """Return whether the setting in ``folder`` reached its end."""
    return (folder / MANIFEST).exists() and RunFolder(folder).is_complete


def train_points(
    points: Sequence[Point], output: Path, scans: Scans, *, executor: Executor, progress: Progress
) -> Mapping[str, str]:
    """Train and attack all ``points`` in folders of ``output``; return why each one failed that did.

    Settings that are finished are checked against their folders but not run. One job, on one thread, trains
    one setting.
    """
    jobs = [Job(point.name, run_point, (_run_of(point, output, scans),)) for point in points]
    try:
        results = executor.run(jobs, progress=progress, title="settings")
    except JobError as error:  # workers died again and again: keep what is finished
        unfinished = [point for point in points if not is_finished(output / POINTS / point.folder)]
        return {point.name: str(error) for point in unfinished}
    return {
        point.name: result["failed"]
        for point, result in zip(points, results, strict=True)
        if "failed" in result
    }


def _run_of(point: Point, output: Path, scans: Scans) -> PointRun:
    failure = output / FAILURES / f"{point.folder}.txt"
    return PointRun(point.config, output / POINTS / point.folder, failure, scans)
