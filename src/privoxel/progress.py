"""Progress as an argument: long work calls ``advance(n)``; who watches decides what is shown.

``Silent`` shows nothing (tests, CI, ``--quiet``); the command line passes one that draws bars.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, final


class Task(Protocol):
    """One bar."""

    def advance(self, steps: float = 1) -> None:
        """Move the bar on by ``steps``."""
        ...

    def note(self, text: str) -> None:
        """Show a short text (a loss, a rate) beside the bar."""
        ...


class Progress(Protocol):
    """Where the progress of long work goes."""

    def task(self, title: str, total: float) -> AbstractContextManager[Task]:
        """Open a bar of ``total`` steps for the length of a block."""
        ...

    def say(self, text: str) -> None:
        """Show one line."""
        ...


def duration(seconds: float) -> str:
    """Return a time span as a reader says it.

    >>> duration(7200)
    '2.0 h'
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@final
class Silent:
    """Progress that nobody watches."""

    @contextmanager
    def task(self, title: str, total: float) -> Iterator[Task]:  # noqa: ARG002 - the protocol's names
        """Open a bar that shows nothing."""
        yield _SilentTask()

    def say(self, text: str) -> None:
        """Show nothing."""


@final
class _SilentTask:
    def advance(self, steps: float = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass
