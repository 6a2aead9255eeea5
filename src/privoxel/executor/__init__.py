"""Running many independent jobs behind one door: one after another, in processes, or on a Ray cluster.

A job is a named pure function of its arguments, and its randomness comes from streams named in them, so that
results are the same bit for bit whatever the back end and the number of workers. Every job computes on one
thread. A worker that dies costs the jobs it was running, which are repeated, and not the run; jobs that
finished before are read from where they were kept and never run again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, final

from privoxel.errors import ConfigError
from privoxel.executor.jobs import Finished, Job, JobCall, one_thread, usable_cores
from privoxel.progress import Progress, Silent, Task

__all__ = ["BACKENDS", "Executor", "Finished", "Job", "one_thread", "run_jobs", "usable_cores"]

Result = TypeVar("Result")
Backend = Literal["serial", "joblib", "ray"]
BACKENDS: tuple[Backend, ...] = ("serial", "joblib", "ray")
LOCAL = "local"


@final
@dataclass(frozen=True)
class Executor:
    """Where jobs run.

    ``address`` is for Ray: "local" starts a cluster on this machine and stops it afterwards, "auto" joins the
    one that runs here, HOST:PORT or ray://HOST:PORT another one. ``gpus`` is the share of a GPU that each job
    takes on a cluster. ``retries`` is how often a job is repeated after its worker died.
    """

    backend: Backend = "serial"
    workers: int = 1
    address: str = LOCAL
    gpus: float = 0.0
    retries: int = 3

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ConfigError(
                f"An executor needs one of {', '.join(BACKENDS)}, got {self.backend!r}. Choose one."
            )
        if self.workers < 1 or self.gpus < 0 or self.retries < 0:
            raise ConfigError(
                f"An executor needs at least 1 worker, no negative gpus or retries, got {self.workers}, "
                f"{self.gpus:g} and {self.retries}. Correct them."
            )

    def run(
        self,
        jobs: Sequence[Job],
        *,
        keep: Finished | None = None,
        progress: Progress | None = None,
        title: str = "jobs",
    ) -> list[Any]:
        """Return the result of every job, in the order of ``jobs``.

        With ``keep``, jobs finished before are not run, and each result is kept as soon as its job ends; such
        results are plain values (numbers, text, lists, mappings with text keys) and come back as JSON gives
        them. Except for ``serial``, functions and arguments must pickle.

        Raises:
            ConfigError: if two jobs have the same name.
            JobError: if a job's worker died more often than ``retries``, or Ray cannot be reached.
        """
        names = [job.name for job in jobs]
        if len(set(names)) != len(names):
            raise ConfigError(
                f"Jobs need distinct names, got {len(names) - len(set(names))} twice. Rename them."
            )
        results: dict[str, Any] = {} if keep is None else dict(keep.among(names))
        waiting = [job for job in jobs if job.name not in results]
        with (progress or Silent()).task(title, len(jobs)) as task:
            task.advance(len(results))
            started = time.perf_counter()
            for k, (index, result) in enumerate(self._stream([JobCall(job, keep) for job in waiting]), 1):
                results[waiting[index].name] = result
                _show(task, k, len(waiting), time.perf_counter() - started)
        return [results[name] for name in names]

    def _stream(self, calls: Sequence[JobCall]) -> Iterator[tuple[int, Any]]:
        """Yield (position, result) as jobs end."""
        if self.backend == "ray" and calls:
            from privoxel.executor.cluster import on_cluster  # noqa: PLC0415 - ray is an extra

            yield from on_cluster(calls, self)
        elif self.backend == "joblib" and self.workers > 1 and len(calls) > 1:
            from privoxel.executor.pool import in_pool  # noqa: PLC0415 - serial runs need no pool

            yield from in_pool(calls, self.workers, self.retries)
        else:
            for k, call in enumerate(calls):
                yield k, call()


def run_jobs(
    function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], *, workers: int = 1
) -> Iterator[Result]:
    """Yield ``function(*job)`` for every job, in the order of the jobs.

    With more than one worker the function and its arguments must pickle.
    """
    calls = [JobCall(Job(str(k), function, job)) for k, job in enumerate(jobs)]
    early: dict[int, Result] = {}
    following = 0
    for index, result in Executor("joblib", max(workers, 1))._stream(calls):
        early[index] = result
        while following in early:
            yield early.pop(following)
            following += 1


def _show(task: Task, done: int, of: int, seconds: float) -> None:
    task.advance()
    left = seconds / done * (of - done)
    shown = (
        f"{left:.0f} s" if left < 90 else f"{left / 60:.0f} min" if left < 5400 else f"{left / 3600:.1f} h"
    )
    task.note(f"about {shown} left" if done < of else "done")
