"""What every recipe's run does besides its own work: log, clock, configuration, the cohort's digest."""

import datetime
import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from privoxel.cohort.base import Cohort
from privoxel.progress import Progress
from privoxel.store import RunFolder, write_text


def cohort_content(cohort: Cohort) -> str:
    """Return a digest of all volumes, ids and covariates together."""
    people = cohort.covariates
    parts: tuple[Any, ...] = (
        cohort.fingerprint,
        people.scans,
        people.age.tolist(),
        people.sex.tolist(),
        people.site.tolist(),
    )
    if people.columns:
        parts = (*parts, {name: values.tolist() for name, values in sorted(people.columns.items())})
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def write_config(folder: RunFolder, settings: Mapping[str, Any]) -> None:
    """Write the resolved settings of a run as ``config.toml``."""
    import tomli_w  # noqa: PLC0415 - only runs write configurations

    write_text(folder.path / "config.toml", tomli_w.dumps(settings))


def announce(text: str, progress: Progress, logger: logging.Logger) -> None:
    """Say ``text`` to who watches and to the log."""
    logger.info(text)
    progress.say(text)


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def new_folder() -> Path:
    """Return a new run folder's path, named after the time."""
    stamp = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / stamp


@contextmanager
def log_file(folder: RunFolder) -> Iterator[None]:
    """Send the package's log to ``logs/run.log`` for the length of a block."""
    path = folder.path / "logs" / "run.log"
    path.parent.mkdir(exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    package = logging.getLogger("privoxel")
    package.addHandler(handler)
    level = package.level
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.setLevel(level)
        package.removeHandler(handler)
        handler.close()


@final
class Clock:
    """Wall seconds by stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Note the seconds since the last stage ended as those of ``stage``."""
        now = time.perf_counter()
        self.laps[stage] = round(now - self._last, 2)
        self._last = now
