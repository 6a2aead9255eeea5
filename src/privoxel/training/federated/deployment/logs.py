"""The log of a deployed process: what privoxel and Flower say goes to a file, not to the terminal."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPEAKERS = ("privoxel", "flwr", "uvicorn.error")
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append what is logged to ``path`` while the block runs; privoxel's warnings reach the terminal too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = logging.FileHandler(path, encoding="utf-8")
    writer.setFormatter(logging.Formatter(FORMAT))
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    terminal.setFormatter(logging.Formatter("privoxel: %(message)s"))
    loggers = [logging.getLogger(name) for name in SPEAKERS]
    before = [(one, list(one.handlers), one.propagate, one.level) for one in loggers]
    for one in loggers:
        one.handlers = [writer, terminal] if one.name == "privoxel" else [writer]
        one.propagate = False
        one.setLevel(logging.INFO)
    try:
        yield
    finally:
        for one, handlers, propagate, level in before:
            one.handlers = handlers
            one.propagate = propagate
            one.setLevel(level)
        writer.close()
