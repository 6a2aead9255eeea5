"""Progress bars on a terminal, and a line now and then where there is none.

What a batch system writes to a file shows no bars; there a note becomes a line, at most one a minute.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from privoxel.progress import Task

LINE_EVERY = 60.0
"""Seconds between two lines where there is no terminal, at least."""


@final
class Bars:
    """One bar at a time on standard error, with the time left and a short note."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    @contextmanager
    def task(self, title: str, total: float) -> Iterator[Task]:
        """Open a bar of ``total`` steps for the length of a block; it leaves one line behind."""
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self._console, refresh_per_second=4) as progress:
            bar = _Bar(progress, progress.add_task(title, total=total, note=""))
            yield bar if self._console.is_terminal else _Lines(bar, self, title, total)

    def say(self, text: str) -> None:
        """Show one line."""
        self._console.print(text, highlight=False)


@final
class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, steps: float = 1) -> None:
        self._progress.advance(self._task, steps)

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)


@final
class _Lines:
    """A bar that nobody sees until it ends, whose notes are said meanwhile: not all, and not the last."""

    def __init__(self, bar: _Bar, bars: Bars, title: str, total: float) -> None:
        self._bar = bar
        self._bars = bars
        self._title = title
        self._total = total
        self._done = 0.0
        self._said = time.perf_counter()

    def advance(self, steps: float = 1) -> None:
        self._done += steps
        self._bar.advance(steps)

    def note(self, text: str) -> None:
        self._bar.note(text)
        now = time.perf_counter()
        if now >= self._said + LINE_EVERY and self._done < self._total:
            self._said = now
            self._bars.say(f"{self._title}: {self._done:,.0f} of {self._total:,.0f}, {text}")
