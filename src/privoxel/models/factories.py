"""A network by the place of its factory: ``package.module:name``, from the user's own code."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from torch import Tensor, nn

from privoxel.errors import ModelError, PrivoxelError
from privoxel.models.adapted import WhiteBox
from privoxel.models.callables import load_reference
from privoxel.models.predictor import foreign

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


@final
@dataclass(frozen=True)
class Known:
    """What a factory may ask for by parameters of these names: tensors by name, voxels along x, y and z."""

    weights: Mapping[str, Tensor] | None = None
    grid: Sequence[int] | None = None


def build_from(place: str, known: Known | None = None) -> WhiteBox:
    """Return what the factory at ``place`` makes: a network as it is, or with how it is to be used.

    The factory is called without arguments, or with those of ``known`` that it cannot do without; an
    ``nn.Module`` or a ``WhiteBox`` at that place is taken itself.

    Raises:
        ModelError: if there is no such module or name, or it fails or makes something else.
    """
    made = load_reference(place)
    if not isinstance(made, nn.Module | WhiteBox):
        made = _called(made, place, known or Known())
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


def _called(made: Any, place: str, known: Known) -> Any:
    if not callable(made):
        raise ModelError(
            f"Factory {place} needs a function, a class or a network, got {type(made).__name__}. Name one."
        )
    arguments = _arguments(made, place, known)
    try:
        return made(**arguments)
    except PrivoxelError as error:
        raise ModelError(f"Factory {place}: {error}") from error
    except Exception as error:
        raise ModelError(
            f"Factory {place} needs to return a network, got {foreign(error)}. Correct the factory."
        ) from error


def _arguments(made: Any, place: str, known: Known) -> dict[str, Any]:
    """Return what of ``known`` a factory needs.

    Raises:
        ModelError: if it needs what is not known.
    """
    try:
        signature = inspect.signature(made)
    except ValueError:  # no signature to look at: calling it will tell
        return {}
    needed = [name for name, one in signature.parameters.items() if one.default is one.empty]
    arguments = {
        name: value
        for name, value in (("weights", known.weights), ("grid", known.grid))
        if name in needed and value is not None
    }
    if "weights" in needed and "weights" not in arguments:
        raise ModelError(
            f"Factory {place} needs the weights to build a network that fits them, got none. Give --weights."
        )
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ModelError(
            f"Factory {place} needs to be callable without arguments (or with weights and grid alone), got: "
            f"{error}. Write a function that calls it with yours."
        ) from error
    return arguments
