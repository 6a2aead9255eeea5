"""Running many independent jobs: one after another, or in worker processes.

A job is a pure function of its arguments, and its randomness comes from streams named in them, so that
results do not depend on the number of workers. Every worker computes on one thread.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")


def usable_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], *, workers: int = 1
) -> Iterator[Result]:
    """Yield ``function(*job)`` for every job, in the order of the jobs.

    With more than one worker the function and its arguments must pickle.
    """
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield function(*job)
        return
    from joblib import Parallel, delayed  # noqa: PLC0415 - serial runs need no pool

    pool = Parallel(
        n_jobs=min(workers, len(jobs)), return_as="generator", inner_max_num_threads=1, backend="loky"
    )
    yield from pool(delayed(function)(*job) for job in jobs)
