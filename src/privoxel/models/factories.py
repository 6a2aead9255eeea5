"""A network by the place of its factory: ``package.module:name``, from the user's own code."""

import inspect
from dataclasses import replace
from typing import Any

from torch import nn

from privoxel.errors import ModelError, PrivoxelError
from privoxel.models.adapted import WhiteBox
from privoxel.models.callables import load_reference
from privoxel.models.predictor import foreign

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def build_from(place: str) -> WhiteBox:
    """Return what the factory at ``place`` makes: a network as it is, or with how it is to be used.

    The factory is called without arguments; an ``nn.Module`` or a ``WhiteBox`` at that place is taken itself.

    Raises:
        ModelError: if there is no such module or name, or it fails or makes something else.
    """
    made = load_reference(place)
    if not isinstance(made, nn.Module | WhiteBox):
        made = _called(made, place)
    return white_box(made, place)


def white_box(made: Any, place: str) -> WhiteBox:
    """Return ``made`` as a ``WhiteBox``.

    Raises:
        ModelError: if it is neither that nor an ``nn.Module``.
    """
    if isinstance(made, WhiteBox):
        return replace(made, net=_unwrapped(made.net))
    if isinstance(made, nn.Module):
        return WhiteBox(_unwrapped(made))
    raise ModelError(
        f"{place} needs an nn.Module or a privoxel.models.WhiteBox, got {type(made).__name__}. Return one of "
        "them."
    )


def _unwrapped(net: nn.Module) -> nn.Module:
    """Return the network inside data-parallel or compiled wrappers."""
    while True:
        inner = net.module if isinstance(net, WRAPPERS) else getattr(net, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return net
        net = inner


def _called(made: Any, place: str) -> Any:
    if not callable(made):
        raise ModelError(
            f"Factory {place} needs a function, a class or a network, got {type(made).__name__}. Name one."
        )
    try:
        inspect.signature(made).bind()
    except TypeError as error:
        raise ModelError(
            f"Factory {place} needs to be callable without arguments, got: {error}. Write a function that "
            "calls it with yours."
        ) from error
    except ValueError:  # no signature to look at: calling it will tell
        pass
    try:
        return made()
    except PrivoxelError:
        raise
    except Exception as error:
        raise ModelError(
            f"Factory {place} needs to return a network, got {foreign(error)}. Correct the factory."
        ) from error
