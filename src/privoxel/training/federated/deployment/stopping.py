"""SIGTERM ends a deployed process as Ctrl-C does: what it holds is closed first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupted_when_terminated() -> Iterator[None]:
    """Let SIGTERM raise ``KeyboardInterrupt`` while the block runs (in the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
