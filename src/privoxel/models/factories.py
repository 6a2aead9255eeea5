"""A network by the place of its factory: ``package.module:name``, from the user's own code."""

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from privoxel.errors import ModelError
from privoxel.models.adapted import WhiteBox


def is_factory(text: str) -> bool:
    """Return whether ``text`` has the form of a factory's place.

    >>> is_factory("brains.nets:build"), is_factory("model.onnx"), is_factory("C:/model.pt")
    (True, False, False)
    """
    module, colon, name = text.partition(":")
    return bool(colon) and name.isidentifier() and all(part.isidentifier() for part in module.split("."))


def build_from(place: str) -> WhiteBox:
    """Return what the factory at ``place`` makes: a network as it is, or with how it is to be used.

    The factory is called without arguments; an ``nn.Module`` or a ``WhiteBox`` at that place is taken itself.
    Modules beside the working directory are found as by ``python -m``.

    Raises:
        ModelError: if there is no such module or name, or it makes something else.
    """
    module_name, _, name = place.partition(":")
    with _working_directory_first():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise ModelError(
                f"Factory {place} needs the module {error.name}, which is not there. Run from the folder that "
                "holds it, or install it."
            ) from error
        made = getattr(module, name, None)
        if made is None:
            raise ModelError(
                f"Factory {place} needs {name!r} in {module_name}, got a module without it. Correct the name."
            )
        if not isinstance(made, nn.Module | WhiteBox):
            made = _called(made, place)
    return white_box(made, place)


def white_box(made: Any, place: str) -> WhiteBox:
    """Return ``made`` as a ``WhiteBox``.

    Raises:
        ModelError: if it is neither that nor an ``nn.Module``.
    """
    if isinstance(made, WhiteBox):
        return made
    if isinstance(made, nn.Module):
        return WhiteBox(made)
    raise ModelError(
        f"{place} needs an nn.Module or a privoxel.WhiteBox, got {type(made).__name__}. Return one of them."
    )


def _called(made: Any, place: str) -> Any:
    if not callable(made):
        raise ModelError(f"Factory {place} needs a function, a class or a network, got {type(made).__name__}.")
    try:
        inspect.signature(made).bind()
    except TypeError as error:
        raise ModelError(
            f"Factory {place} needs to be callable without arguments, got: {error}. Write a function that "
            "calls it with yours."
        ) from error
    except ValueError:  # no signature to look at: calling it will tell
        pass
    return made()


@contextmanager
def _working_directory_first() -> Iterator[None]:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
