"""Weights that somebody brought: read without running anything in the file, and loaded key by key.

A safetensors file holds numbers alone. A PyTorch file is a pickle, which may run any code when it is opened;
it is read with ``weights_only=True``, which knows tensors and plain containers. What needs more is refused,
with how to convert it, unless the user says that the file is their own.
"""

import os
import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from privoxel.errors import ModelError, ModelProblemsError, Problem

HOLDERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "ema")
"""Keys under which training loops keep the weights."""
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""What data-parallel training, compiling and training loops put before the names of tensors."""
COUNTER = "num_batches_tracked"  # has no effect on a network in evaluation mode; old files lack it


def read_weights(path: Path, *, trust_pickle: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a safetensors or PyTorch file by name.

    Args:
        path: ``.safetensors``, or what ``torch.save`` wrote of a state dict, alone or within a checkpoint.
        trust_pickle: run whatever the file asks for; for one's own files alone.

    Raises:
        ModelError: if the file cannot be read, holds no weights, or would run code.
    """
    if not path.is_file():
        raise ModelError(f"Weights need a file, got {path.name}, which is not there. Correct the path.")
    return _state_of(_read(path, trust_pickle=trust_pickle), path)


def load_into(net: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Put ``weights`` into ``net``, in place, whatever wrappers' prefixes their names have.

    Raises:
        ModelProblemsError: naming every tensor that is missing, left over, or of another shape.
    """
    own = net.state_dict()
    weights = max(_renamed(weights, own), key=lambda named: len(own.keys() & named.keys()))
    missing = [name for name in own if name not in weights and not name.endswith(COUNTER)]
    unexpected = [name for name in weights if name not in own]
    shapes = [
        (name, tuple(tensor.shape), tuple(own[name].shape))
        for name, tensor in weights.items()
        if name in own and tensor.shape != own[name].shape
    ]
    problems = [
        *(Problem(name, "missing from the file", "Give the weights of this network") for name in missing),
        *(Problem(name, "not in the network", "Correct the factory") for name in unexpected),
        *(
            Problem(name, f"has shape {got} in the file and {need} in the network", "Correct the factory")
            for name, got, need in shapes
        ),
    ]
    if problems:
        raise ModelProblemsError(
            f"{source} needs the {len(own)} tensors of {type(net).__name__}, got others", problems
        )
    net.load_state_dict(dict(weights), strict=False)


def _renamed(weights: Mapping[str, Tensor], own: Iterable[str]) -> list[dict[str, Tensor]]:
    """Return ``weights`` under the names they may have in a network with the names ``own``, as is first."""
    found = peeled(dict(weights))
    bare, names = found[-1], dict.fromkeys(own)
    for bared in peeled({name: torch.empty(0) for name in names})[1:]:
        prefix = next(iter(names)).removesuffix(next(iter(bared)))
        found.append({f"{prefix}{name}": tensor for name, tensor in bare.items()})
    return found


def peeled(named: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return ``named``, and what is left after taking off one prefix after the other that all names share.

    >>> [list(names) for names in peeled({"module.net.a": torch.ones(1), "module.net.b": torch.ones(1)})]
    [['module.net.a', 'module.net.b'], ['net.a', 'net.b'], ['a', 'b']]
    """
    found = [named]
    while named:
        prefix = next((p for p in WRAPPERS if all(name.startswith(p) for name in named)), None)
        if prefix is None:
            break
        named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
        found.append(named)
    return found


def _read(path: Path, *, trust_pickle: bool) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_file(os.fspath(path))
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(f"{path.name} needs to be a safetensors file, got: {error}.") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that are refused in our own words
            return torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        if trust_pickle or "nsupported" not in str(error):
            raise ModelError(f"{path.name} needs to be a PyTorch file, got: {_first_line(error)}.") from error
        raise ModelError(_refusal(path, error)) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, AttributeError, ImportError) as error:
        raise ModelError(
            f"{path.name} needs to be a state dict that torch.save wrote, or safetensors, got: "
            f"{_first_line(error)}. Save model.state_dict()."
        ) from error


def _refusal(path: Path, error: Exception) -> str:
    asked = re.findall(r"GLOBAL ([\w.]+)", str(error)) or re.findall(r"`([\w.]+)`", str(error))
    wants = f" ({asked[0]})" if asked else ""
    return (
        f"{path.name} needs to hold tensors alone, got a pickle that asks for more{wants} and could run any "
        "code. On a machine where you trust it, convert it: "
        f"torch.save(torch.load('{path.name}', weights_only=False).state_dict(), 'weights.pt') for a whole "
        "model, [...]['state_dict'] for a checkpoint. For a file that you made yourself: --trust-pickle."
    )


def _state_of(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict in what a file held."""
    if isinstance(content, nn.Module):
        return content.state_dict()
    for _ in range(2):
        if not isinstance(content, Mapping):
            break
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
        inner = next((content[key] for key in HOLDERS if key in content), None)
        if inner is None:
            break
        content = inner.state_dict() if isinstance(inner, nn.Module) else inner
    keys = _names(content) if isinstance(content, Mapping) else type(content).__name__
    raise ModelError(
        f"{path.name} needs a state dict, alone or under one of {', '.join(HOLDERS)}, got {keys}. "
        "Save model.state_dict()."
    )


def _names(content: Iterable[Any]) -> str:
    names = [str(name) for name in content]
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "") or "nothing"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
