"""Objects of the user's own Python code: ``package.module:name``.

Importing a module runs it. Nothing is looked up beyond what the user named.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from privoxel.arrays import FloatArray
from privoxel.errors import ModelError
from privoxel.models.predictor import Batch, foreign, one_age_each


def is_reference(text: str) -> bool:
    """Return whether ``text`` names an object of a module.

    >>> is_reference("my_models.brain:age"), is_reference("model.onnx"), is_reference("C:/model.pt")
    (True, False, False)
    """
    module, colon, name = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *name.split(".")))


def load_reference(reference: str) -> Any:
    """Return the object that ``package.module:name`` names; the current folder is searched first.

    Raises:
        ModelError: if the module cannot be imported, or has no such name.
    """
    module, _, name = reference.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise ModelError(
            f"{reference} needs a module that can be imported from here, got {foreign(error)}. Run the "
            "command in the module's folder, or install it."
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ModelError(f"{reference} needs the name {part!r} in {module}, got none. Correct it.")
        found = getattr(found, part)
    return found


@final
@dataclass(frozen=True)
class CallablePredictor:
    """A function of a batch (float32) that returns one age an entry, years; an ``nn.Module`` gets tensors."""

    call: Callable[[Any], Any]
    name: str
    target: int | None = None
    input_shape: tuple[int | None, ...] | None = None

    @property
    def facts(self) -> Mapping[str, Any]:
        """Format, name and chosen output."""
        chosen = {} if self.target is None else {"target": self.target}
        return {"format": "Python callable", "callable": self.name, **chosen}

    def predict(self, batch: Batch) -> FloatArray:
        """Return what the function says, years."""
        try:
            if isinstance(self.call, nn.Module):
                with torch.inference_mode():
                    answer = self.call(torch.from_numpy(batch))
            else:
                answer = self.call(batch)
        except Exception as error:
            raise ModelError(
                f"{self.name} needs to run on a batch of shape {batch.shape}, got {foreign(error)}. Mend it, "
                "or check grid and normalisation."
            ) from error
        if isinstance(answer, torch.Tensor):
            answer = answer.detach().float().cpu().numpy()
        return one_age_each(answer, len(batch), self.target, self.name)


def predictor_of(call: object, name: str, *, target: int | None = None) -> CallablePredictor:
    """Return a predictor that asks ``call``; a network is put into evaluation mode.

    Raises:
        ModelError: if it cannot be called.
    """
    if not callable(call):
        raise ModelError(
            f"{name} needs to be a function of a batch that returns ages, got {type(call).__name__}. Name a "
            "function."
        )
    if isinstance(call, nn.Module):
        call.eval()
    return CallablePredictor(call, name, target)
