"""Where privoxel keeps what it can derive again: one folder of the user, never shared."""

import os
from pathlib import Path

from privoxel.errors import StoreError


def cache_folder() -> Path:
    """Return the cache folder, created with mode 0700 if it was not there.

    The first of ``$PRIVOXEL_CACHE``, ``$XDG_CACHE_HOME/privoxel`` and ``~/.cache/privoxel``. Everything in it
    can be deleted at any time.

    Raises:
        StoreError: if the folder can neither be found nor created.
    """
    folder = _chosen(os.environ.get("PRIVOXEL_CACHE", ""), os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The cache needs a folder it can write to, got {folder} ({error.strerror}). "
            "Set PRIVOXEL_CACHE to one that is."
        ) from error
    return folder


def _chosen(own: str, xdg: str) -> Path:
    if own:
        return Path(own).expanduser()
    if xdg:
        return Path(xdg) / "privoxel"
    return Path.home() / ".cache" / "privoxel"
