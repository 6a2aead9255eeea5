"""Flower's own programs as child processes: started with telemetry off, stopped with all their children."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from privoxel.errors import FederationError

STOP_SECONDS = 15.0
LAST_LINES = 12


def program(name: str) -> str:
    """Return the path of one of Flower's programs, looked for beside this interpreter first.

    Raises:
        FederationError: if it is not installed.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FederationError(
            f"A deployment needs Flower's program {name}, got none. Install privoxel[fl] in this environment."
        )
    return found


def environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of Flower's programs: a home of their own, no telemetry, no installing."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    quiet = {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, "PATH": path, **quiet, **extra}


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program in a process group of its own while the block runs; it and its children end with it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with _interrupted_when_terminated(), log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - one of Flower's programs
            list(command),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
        try:
            yield process
        finally:
            stop(process)


@contextmanager
def _interrupted_when_terminated() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that what it started is stopped too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a program and everything that it started, first politely.

    Flower's SuperExec starts in a session of its own: what the process group does not hold is ended by its
    number.
    """
    started = _descendants(process.pid)
    _end_group(process)
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _descendants(pid: int) -> list[int]:
    """Return the processes that ``pid`` and its children started, where the system tells (Linux)."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text(encoding="ascii").split()):
                found += [child, *_descendants(child)]
    return found


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        end = time.monotonic() + STOP_SECONDS
        while time.monotonic() < end and _is_alive(process):
            time.sleep(0.1)


def _is_alive(process: "subprocess.Popen[bytes]") -> bool:
    """Return whether any process of the group is left."""
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def last_lines(log: Path) -> str:
    """Return the end of a program's output."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:])
