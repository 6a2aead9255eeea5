"""Workers that end soon after the process that started them is gone, however it went.

A process that is killed tells its workers nothing, and they would train on, or wait for jobs for ever, beside
those of the run that goes on from it. So every worker looks now and then whether it still has its parent:
the system gives a process another one when its own is gone.
"""

import os
import threading
import time

EVERY = 0.5
"""Seconds between two looks, each a system call of less than a microsecond."""


def end_with(parent: int) -> None:
    """Have this process end, as if it were killed, when it is no longer a child of process ``parent``."""
    threading.Thread(target=_watch, args=(parent,), name="end-with-parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(EVERY)
    os._exit(1)
