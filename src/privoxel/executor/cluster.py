"""Jobs on a Ray cluster: one started for them on this machine, or one that exists.

Ray repeats a job whose worker or node died (``max_retries``). A cluster of this machine lies in a temporary
folder with a short path, since Ray's sockets need one, and is stopped at the end; one that was joined is left
as it was. Jobs on a joined cluster read and write files by the paths of this machine: it must share them.
"""

import importlib.util
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from privoxel.errors import JobError
from privoxel.executor.jobs import JobCall

if TYPE_CHECKING:
    from privoxel.executor import Executor

OBJECT_STORE_BYTES = 100 * 2**20
LOCAL = "local"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def on_cluster(calls: Sequence[JobCall], executor: "Executor") -> Iterator[tuple[int, Any]]:
    """Yield (position, result) of every call as it ends.

    Raises:
        JobError: if Ray is not installed or not reached, or a worker died more often than allowed.
    """
    with _connected(executor) as ray:
        have = ray.cluster_resources().get("GPU", 0.0)
        if executor.gpus > have:
            raise JobError(
                f"Jobs of {executor.gpus:g} GPU need a cluster with as much, got {have:g}. "
                "Lower --gpu-share, or add nodes with GPUs."
            )
        remote = ray.remote(num_cpus=1, num_gpus=executor.gpus, max_retries=executor.retries)(_call)
        waiting = {remote.remote(call): k for k, call in enumerate(calls)}
        while waiting:
            ended, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
            for reference in ended:
                index = waiting.pop(reference)
                yield index, _result(ray, reference, calls[index], executor)


def _call(call: JobCall) -> Any:
    return call()


def _result(ray: Any, reference: Any, call: JobCall, executor: "Executor") -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise JobError(
            f"Job {call.job.name} needs a worker that stays alive, got {executor.retries + 1} that died "
            f"({type(error).__name__}). Look for a lack of memory, or give each job more of a GPU."
        ) from error


def _reach(address: str) -> None:
    """Raise ``OSError`` if nothing listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=5).close()


@contextmanager
def _connected(executor: "Executor") -> Iterator[Any]:
    if importlib.util.find_spec("ray") is None:
        raise JobError("Ray needs to be installed for --ray, got none. Install privoxel[ray].")
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray  # noqa: PLC0415 - an extra

    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if executor.address != LOCAL:
        try:
            _reach(executor.address)
            ray.init(address=executor.address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise JobError(
                f"Ray needs a cluster at {executor.address!r}, got: {error}. "
                "Start one with 'ray start --head', or use --ray local."
            ) from error
        try:
            yield ray
        finally:
            ray.shutdown()
        return
    with tempfile.TemporaryDirectory(prefix="pvx-", ignore_cleanup_errors=True) as folder:
        ray.init(
            num_cpus=executor.workers,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=folder,
            **quiet,
        )
        try:
            yield ray
        finally:
            ray.shutdown()
