"""Jobs in processes of this machine.

Long jobs run in lanes: pools of one worker each, so that a worker that is killed takes one job with it and it
is known which, and a worker whose parent is killed ends too. Short jobs share joblib's pool, whose processes
outlive a call and which hands large arrays over in shared memory; when a worker of it dies it gives up all of
them, and what is left then goes into lanes.
"""

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from privoxel.executor.jobs import Ended, JobCall, worker_died
from privoxel.executor.orphans import end_with

logger = logging.getLogger(__name__)

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


def in_lanes(calls: Sequence[JobCall], workers: int, retries: int) -> Iterator[Ended]:
    """Yield every call's result as it ends; a job whose worker died is repeated, and no other.

    Raises:
        JobError: naming the job whose workers died more often than ``retries``.
    """
    waiting = deque(range(len(calls)))
    deaths: Counter[int] = Counter()
    lanes = [_lane() for _ in range(min(workers, len(calls)))]
    idle, running = deque(range(len(lanes))), dict[Future[Any], tuple[int, int]]()
    try:
        while waiting or running:
            while waiting and idle:
                index, lane = waiting.popleft(), idle.popleft()
                lanes[lane], future = _submitted(lanes[lane], calls[index])
                running[future] = index, lane
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index, lane = running.pop(future)
                idle.append(lane)
                try:
                    result = future.result()
                except TerminatedWorkerError as error:
                    deaths[index] += 1
                    if deaths[index] > retries:
                        raise worker_died(calls[index].job.name, deaths[index], "TerminatedWorker") from error
                    logger.warning("The worker of %s died; it is repeated", calls[index].job.name)
                    waiting.appendleft(index)
                else:
                    yield Ended(index, result, len(lanes))
    finally:
        for pool in lanes:
            pool.shutdown(kill_workers=True)


def in_shared_pool(calls: Sequence[JobCall], workers: int, retries: int) -> Iterator[Ended]:
    """Yield every call's result as it ends; after the death of a worker the rest runs in lanes.

    Raises:
        JobError: naming the job whose workers died more often than ``retries``.
    """
    at_once = min(workers, len(calls))
    pool = Parallel(
        n_jobs=at_once,
        return_as="generator_unordered",
        batch_size=1,
        inner_max_num_threads=1,
        backend="loky",
    )
    left = dict(enumerate(calls))
    try:
        for index, result in pool(delayed(_numbered)(k, call) for k, call in enumerate(calls)):
            del left[index]
            yield Ended(index, result, at_once)
    except TerminatedWorkerError:
        logger.warning("A worker died; what had not ended is repeated: %d of %d", len(left), len(calls))
        positions = tuple(left)
        for ended in in_lanes(tuple(left.values()), workers, retries):
            yield ended._replace(position=positions[ended.position])


def _lane() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(max_workers=1, initializer=end_with, initargs=(os.getpid(),), env=ONE_THREAD)


def _submitted(lane: ProcessPoolExecutor, call: JobCall) -> tuple[ProcessPoolExecutor, Future[Any]]:
    """Return the lane that runs ``call``, a new one if the worker of ``lane`` is dead, and its future."""
    try:
        return lane, lane.submit(call)
    except TerminatedWorkerError:
        lane.shutdown()
        lane = _lane()
        return lane, lane.submit(call)


def _numbered(index: int, call: JobCall) -> tuple[int, object]:
    return index, call()
