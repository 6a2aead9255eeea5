"""Jobs in processes of this machine (joblib's loky pool)."""

from collections.abc import Iterator, Sequence
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from privoxel.errors import JobError
from privoxel.executor.jobs import JobCall


def in_pool(calls: Sequence[JobCall], workers: int, retries: int) -> Iterator[tuple[int, Any]]:
    """Yield (position, result) of every call as it ends.

    When a worker is killed loky gives up its whole pool: a new one repeats what had not ended.
    """
    waiting = dict(enumerate(calls))
    deaths = 0
    while waiting:
        pool = Parallel(
            n_jobs=min(workers, len(waiting)),
            return_as="generator_unordered",
            batch_size=1,
            inner_max_num_threads=1,
            backend="loky",
        )
        try:
            for index, result in pool(delayed(_numbered)(k, call) for k, call in tuple(waiting.items())):
                del waiting[index]
                yield index, result
        except TerminatedWorkerError as error:
            deaths += 1
            if deaths > retries:
                names = ", ".join(call.job.name for call in tuple(waiting.values())[:3])
                raise JobError(
                    f"Worker processes need to stay alive, got {deaths} killed with {len(waiting)} jobs "
                    f"to do ({names}). Look for a lack of memory, or use fewer --jobs."
                ) from error


def _numbered(index: int, call: JobCall) -> tuple[int, Any]:
    return index, call()
