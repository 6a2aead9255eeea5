"""Running many independent jobs behind one door: one after another, in processes, or on a Ray cluster.

A job is a named pure function of its arguments, and its randomness comes from streams named in them, so that
results are the same bit for bit whatever the back end and the number of workers. Every job computes on one
thread. A worker that dies costs the job it was running, which is repeated, and not the run; jobs that
finished before are read from where they were kept and never run again.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, final

from privoxel.errors import ConfigError
from privoxel.executor.forecast import seconds_left
from privoxel.executor.jobs import Ended, Finished, Job, JobCall, one_thread, usable_cores
from privoxel.progress import Progress, Silent, Task, duration

__all__ = ["BACKENDS", "LOCAL", "Executor", "Finished", "Job", "one_thread", "run_jobs", "usable_cores"]

Result = TypeVar("Result")
Backend = Literal["serial", "joblib", "ray"]
BACKENDS: tuple[Backend, ...] = ("serial", "joblib", "ray")
LOCAL = "local"
LOG_EVERY = 60.0
"""Seconds between two lines of the log about jobs that run, at least."""

logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Executor:
    """Where jobs run.

    ``workers`` is how many jobs run at a time; a cluster that is joined decides that itself (``sized``).
    ``address`` is for Ray: "local" starts a cluster on this machine and stops it afterwards, "auto" joins the
    one that runs here, HOST:PORT or ray://HOST:PORT another one. ``gpus`` is the share of a GPU that each job
    takes on a cluster, of which None takes nothing. ``retries`` is how often a job is repeated after its
    worker died.
    """

    backend: Backend = "serial"
    workers: int = 1
    address: str = LOCAL
    gpus: float | None = None
    retries: int = 3

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ConfigError(
                f"An executor needs one of {', '.join(BACKENDS)}, got {self.backend!r}. Choose one."
            )
        if self.workers < 1 or self.share < 0 or self.retries < 0:
            raise ConfigError(
                f"An executor needs at least 1 worker, no negative gpus or retries, got {self.workers}, "
                f"{self.share:g} and {self.retries}. Correct them."
            )

        if self.gpus is not None and self.backend != "ray":
            raise ConfigError(
                f"A share of a GPU needs Ray to keep it, got --gpu-share {self.gpus:g} without --ray. "
                "Add --ray local, or leave the share out: then jobs take turns on a GPU."
            )

    @property
    def share(self) -> float:
        """The share of a GPU that each job takes."""
        return self.gpus or 0.0

    def sized(self) -> "Executor":
        """Return this executor with ``workers`` as many jobs as run at a time on its cluster, if it has one.

        A cluster that exists is asked, so that one that is not reached is known before the work begins.

        Raises:
            JobError: if Ray is not installed or not reached, or no node holds a job.
        """
        if self.backend != "ray":
            return self
        from privoxel.executor.cluster import places  # noqa: PLC0415 - ray is an extra

        return replace(self, workers=places(self))

    def run(
        self,
        jobs: Sequence[Job],
        *,
        keep: Finished | None = None,
        progress: Progress | None = None,
        title: str = "jobs",
        expected: float | None = None,
    ) -> list[Any]:
        """Return the result of every job, in the order of ``jobs``.

        With ``keep``, jobs finished before are not run, and each result is kept as soon as its job ends; such
        results are plain values (numbers, text, lists, mappings with text keys) and come back as JSON gives
        them. Except for ``serial``, functions and arguments must pickle. ``expected`` are the seconds that a
        job may take: what is said of the time left until the first one ends. The log has how many have ended
        and what is left, once a minute at most.

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
            logged = started = time.perf_counter()
            _show(task, seconds_left(0, len(waiting), self.workers, 0.0, expected))
            for done, ended in enumerate(self._stream([JobCall(job, keep) for job in waiting]), 1):
                results[waiting[ended.position].name] = ended.result
                now = time.perf_counter()
                left = seconds_left(done, len(waiting), ended.at_once, now - started)
                task.advance()
                _show(task, left)
                if now >= logged + LOG_EVERY and done < len(waiting):
                    logged = now
                    logger.info("%s: %d of %d, %s", title, len(results), len(jobs), _left(left))
        return [results[name] for name in names]

    def _stream(self, calls: Sequence[JobCall]) -> Iterator[Ended]:
        """Yield jobs as they end."""
        if self.backend == "ray" and calls:
            from privoxel.executor.cluster import on_cluster  # noqa: PLC0415 - ray is an extra

            yield from on_cluster(calls, self)
        elif self.backend == "joblib" and self.workers > 1 and len(calls) > 1:
            from privoxel.executor.pool import in_lanes  # noqa: PLC0415 - serial runs need no pool

            yield from in_lanes(calls, self.workers, self.retries)
        else:
            for k, call in enumerate(calls):
                yield Ended(k, call(), 1)


def run_jobs(
    function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], *, workers: int = 1
) -> Iterator[Result]:
    """Yield ``function(*job)`` for every job, in the order of the jobs, which are short.

    With more than one worker the function and its arguments must pickle.

    Raises:
        JobError: if workers died on a job again and again.
    """
    calls = [JobCall(Job(f"{function.__name__} {k}", function, job)) for k, job in enumerate(jobs)]
    if workers < 2 or len(calls) < 2:
        for call in calls:
            yield call()
        return
    from privoxel.executor.pool import in_shared_pool  # noqa: PLC0415 - serial runs need no pool

    early: dict[int, Result] = {}
    following = 0
    for ended in in_shared_pool(calls, workers, Executor().retries):
        early[ended.position] = ended.result
        while following in early:
            yield early.pop(following)
            following += 1


def _show(task: Task, left: float | None) -> None:
    if left is not None:
        task.note(_left(left))


def _left(seconds: float | None) -> str:
    return f"about {duration(seconds)} left" if seconds else "nearly done"
