"""What a job is, how it is held to one thread, and where the results of finished jobs are kept."""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

from privoxel.errors import JobError


def usable_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Ended(NamedTuple):
    """A job that ended: its position, its result, and how many jobs run at a time where it ran."""

    position: int
    result: Any
    at_once: int


class Job(NamedTuple):
    """A pure function and its arguments; ``name`` is its identity among the jobs of a run."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@final
@dataclass(frozen=True)
class Finished:
    """Results of finished jobs, one JSON file each in ``folder``.

    A result counts only for jobs of the same name and ``settings`` (a digest of whatever else it depends on).
    """

    folder: Path
    settings: str

    def among(self, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Yield name and result of every job of ``names`` that is finished."""
        for name in names:
            try:
                content = json.loads(self._path(name).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if content.get("settings") == self.settings and content.get("name") == name:
                yield name, content["result"]

    def put(self, name: str, result: Any) -> Any:
        """Keep a job's result so that readers see all of it or none, and return it as they will."""
        text = json.dumps({"name": name, "settings": self.settings, "result": result}, allow_nan=False)
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
        return json.loads(text)["result"]

    def _path(self, name: str) -> Path:
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"


@final
@dataclass(frozen=True)
class JobCall:
    """A job ready to be called in any process: on one thread, its result kept before it is returned.

    A job that is called again after its result was kept, since its worker died then, does not run again.
    """

    job: Job
    keep: Finished | None = None

    def __call__(self) -> Any:
        """Return the job's result."""
        name = self.job.name
        kept = {} if self.keep is None else dict(self.keep.among([name]))
        if name in kept:
            return kept[name]
        with one_thread():
            result = self.job.function(*self.job.arguments)
        return result if self.keep is None else self.keep.put(name, result)


def worker_died(name: str, times: int, how: str) -> JobError:
    """Return the error of a job whose workers died ``times``."""
    return JobError(
        f"Job {name} needs a worker that stays alive, got {times} that died ({how}). "
        "Look for a lack of memory: fewer --jobs, or more of a GPU for each."
    )


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run a block with the thread pools of BLAS, OpenMP and PyTorch (where imported) at one thread."""
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - scikit-learn's, only jobs need it

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 1
    with threadpool_limits(1):
        if torch is not None:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(before)
