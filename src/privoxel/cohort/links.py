"""Links in a folder of images: they may lead to other places of the dataset, and nowhere else unasked."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ANNEX = "/.git/annex/objects/"


class LinkFault(NamedTuple):
    """What is wrong with where a file really lies, and what to do."""

    what: str
    remedy: str


def link_fault(path: Path, allowed: Iterable[Path]) -> LinkFault | None:
    """Return why a file may not be read because of the links that lead to it, None where it may.

    ``allowed`` are resolved folders. The store of git-annex counts as part of every dataset.
    """
    try:
        file = path.resolve()
        in_circle = file.is_symlink()  # from Python 3.13 on, resolving one raises nothing
    except (OSError, RuntimeError):
        in_circle = True
    if in_circle:
        return LinkFault("is a link that leads in a circle", "Remove it")
    if ANNEX in file.as_posix() or any(file.is_relative_to(place) for place in allowed):
        return None
    return LinkFault(
        "is a link that leads out of the dataset", "Name the folder it may lead to with --root DIR"
    )
