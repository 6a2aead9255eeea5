"""Progress bars on a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from privoxel.progress import Task


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
            yield _Bar(progress, progress.add_task(title, total=total, note=""))

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
