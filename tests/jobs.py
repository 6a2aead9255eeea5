"""Small jobs for tests of executors; importable by worker processes, which they do not keep waiting."""

import fcntl
import os
import signal
import time
from pathlib import Path

from privoxel.executor import Finished


def started(folder: Path, name: str) -> int:
    """Record that a job began, and return how often it has."""
    with (folder / f"{name}.starts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len((folder / f"{name}.starts").read_text().split())


def starts(folder: Path, name: str) -> int:
    return len((folder / f"{name}.starts").read_text().split())


def killed_at_first(folder: Path, name: str) -> str:
    """Die by SIGKILL in the middle of the first attempt, and end well in the second."""
    if started(folder, name) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def beside(folder: Path, name: str, other: str, times: int) -> str:
    """Run until job ``other`` has begun ``times``, so that both run at once."""
    started(folder, name)
    wait_for(folder, other, times)
    return name


def killed_beside(folder: Path, name: str, other: str) -> str:
    """Die by SIGKILL at first, once ``other`` runs beside, and end well in the second attempt."""
    attempt = started(folder, name)
    wait_for(folder, other, 1)
    if attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def wait_for(folder: Path, name: str, times: int) -> None:
    until = time.monotonic() + 300
    while not (folder / f"{name}.starts").exists() or starts(folder, name) < times:
        if time.monotonic() > until:
            raise TimeoutError(f"{name} did not begin {times} times")
        time.sleep(0.02)


def killed_after(folder: Path, name: str, keep: Finished) -> str:
    """Keep the result and die by SIGKILL before it is returned."""
    started(folder, name)
    keep.put(name, name)
    os.kill(os.getpid(), signal.SIGKILL)
    return name


def always_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def counted(folder: Path, name: str) -> str:
    started(folder, name)
    return name


def failing() -> None:
    raise ValueError("the job itself is wrong")


def most_beside(folder: Path, name: str, seconds: float) -> int:
    """Run for some time, and return the most jobs that ran at once meanwhile."""
    mine, most = folder / f"{name}.running", 0
    mine.touch()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        most = max(most, len(list(folder.glob("*.running"))))
        time.sleep(0.02)
    mine.unlink()
    return most


def node_of(seconds: float) -> str:
    """Return the Ray node a job runs on, after some time."""
    import ray  # noqa: PLC0415 - an extra

    time.sleep(seconds)
    return ray.get_runtime_context().get_node_id()


def held(folder: Path, name: str, seconds: float) -> str:
    """Hold a lock until this process ends, whatever runs in it then, and run for ``seconds``."""
    file = os.open(folder / f"{name}.lock", os.O_CREAT | os.O_RDWR)  # never closed
    fcntl.flock(file, fcntl.LOCK_EX)
    started(folder, name)
    time.sleep(seconds)
    return name


def is_held(folder: Path, name: str) -> bool:
    """Return whether a process that runs holds the lock of ``held``."""
    with (folder / f"{name}.lock").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
