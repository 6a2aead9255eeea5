"""Jobs on a Ray cluster: one started for them on this machine, or one that exists.

Ray repeats a job whose worker or node died (``max_retries``), or whose worker its memory monitor killed. A
cluster of this machine lies in a temporary folder with a short path, since Ray's sockets need one, and is
stopped at the end; one that was joined is left as it was. Jobs on a joined cluster read and write files by
the paths of this machine: it must share them.
"""

import importlib.util
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from privoxel.errors import JobError
from privoxel.executor.jobs import Ended, JobCall, worker_died

if TYPE_CHECKING:
    from privoxel.executor import Executor

OBJECT_STORE_BYTES = 100 * 2**20
LOCAL = "local"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def places(executor: "Executor") -> int:
    """Return how many jobs run at a time on the cluster of ``executor``.

    One that exists is asked for its cores and GPUs; one that will be started has the workers asked for, on
    the GPUs that PyTorch shows.

    Raises:
        JobError: if Ray is not installed or not reached, or no node holds a job.
    """
    _require_ray()
    if executor.address == LOCAL:
        torch = sys.modules.get("torch")
        cards = torch.cuda.device_count() if torch is not None else 0
        return _checked([{"CPU": executor.workers, "GPU": cards}], executor.share)
    with _connected(executor) as ray:
        return _checked(_nodes(ray), executor.share)


def held(nodes: Sequence[Mapping[str, float]], gpus: float) -> int:
    """Return how many jobs of one core and ``gpus`` GPUs ``nodes`` hold; no job has parts of two GPUs.

    >>> held([{"CPU": 16, "GPU": 2}, {"CPU": 3, "GPU": 1}, {"CPU": 8}], 0.25)
    11
    """
    found = 0
    for node in nodes:
        cores, cards = int(node.get("CPU", 0)), int(node.get("GPU", 0))
        on_cards = cores if gpus == 0 else int(cards / gpus) if gpus >= 1 else cards * int(1 / gpus)
        found += min(cores, on_cards)
    return found


def _checked(nodes: Sequence[Mapping[str, float]], gpus: float) -> int:
    places = held(nodes, gpus)
    if not places:
        have = ", ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
        raise JobError(
            f"Jobs of 1 core and {gpus:g} GPU need a node with as much, got nodes of {have}. "
            "Lower --gpu-share, or add nodes."
        )
    return places


def _nodes(ray: Any) -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def on_cluster(calls: Sequence[JobCall], executor: "Executor") -> Iterator[Ended]:
    """Yield every call's result as it ends.

    Raises:
        JobError: if Ray is not installed or not reached, no node holds a job, or a worker died more often
            than allowed.
    """
    with _connected(executor) as ray:
        _checked(_nodes(ray), executor.share)
        remote = ray.remote(num_cpus=1, num_gpus=executor.share, max_retries=executor.retries)(_call)
        waiting = {remote.remote(call): k for k, call in enumerate(calls)}
        while waiting:
            ended, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
            for reference in ended:
                index = waiting.pop(reference)
                result = _result(ray, reference, calls[index], executor)
                yield Ended(index, result, max(held(_nodes(ray), executor.share), 1))


def _call(call: JobCall) -> Any:
    return call()


def _result(ray: Any, reference: Any, call: JobCall, executor: "Executor") -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise worker_died(call.job.name, executor.retries + 1, type(error).__name__) from error


def _require_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise JobError("Ray needs to be installed for --ray, got none. Install privoxel[ray].")


def _reach(address: str) -> None:
    """Raise ``OSError`` if nothing listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=5).close()


@contextmanager
def _connected(executor: "Executor") -> Iterator[Any]:
    _require_ray()
    # without a number Ray repeats for ever what its memory monitor killed; the process that asks decides
    for name, value in (QUIET | {"RAY_task_oom_retries": str(executor.retries)}).items():
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
        try:
            ray.init(
                address=LOCAL,  # or Ray would join what RAY_ADDRESS names
                num_cpus=executor.workers,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=folder,
                **quiet,
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise JobError(
                f"Ray needs to start a cluster of {executor.workers} cores on this machine, got: {error}. "
                "Look for a lack of memory or of room in the temporary folder, or leave out --ray."
            ) from error
        try:
            yield ray
        finally:
            ray.shutdown()
