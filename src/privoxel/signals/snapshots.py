"""The weights a model takes on: its own, or several snapshots, in memory and swapped in without copying."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, final

import torch
from torch import Tensor, nn

from privoxel.training.loop import load_weights
from privoxel.training.runtime import Runtime


class Weights(Protocol):
    """What a model can take on, one after the other."""

    def __len__(self) -> int: ...

    def common(self) -> set[str]:
        """Return the names of the tensors that are equal in all of them."""
        ...

    def use(self, snapshot: int) -> None:
        """Give the model the weights of this number."""
        ...


@final
class OwnWeights:
    """The weights that a model has: there is nothing to load, and one of them."""

    def __init__(self, model: nn.Module, runtime: Runtime) -> None:
        """Put ``model`` in evaluation mode on the runtime's device."""
        self._names = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
        runtime.place(model.eval())

    def __len__(self) -> int:
        return 1

    def common(self) -> set[str]:
        """Return the names of all tensors."""
        return self._names

    def use(self, snapshot: int) -> None:
        """Do nothing: the model has its weights."""


@final
class Snapshots:
    """A model that can take the weights of any of its snapshots at once."""

    def __init__(self, model: nn.Module, paths: Sequence[Path], runtime: Runtime) -> None:
        """Load every snapshot into memory; ``model`` is put in evaluation mode on the runtime's device.

        Raises:
            ModelError: if a file does not hold weights of this model.
        """
        self._model = model.eval()
        self._weights = [self._loaded(path, runtime) for path in paths]

    def __len__(self) -> int:
        return len(self._weights)

    def common(self) -> set[str]:
        """Return the names of the tensors that are equal in all snapshots."""
        first, *others = self._weights
        return {name for name, t in first.items() if all(torch.equal(t, other[name]) for other in others)}

    def use(self, snapshot: int) -> None:
        """Give the model the weights (and buffers) of the snapshot of this number."""
        for name, tensor in self._tensors().items():
            tensor.data = self._weights[snapshot][name]

    def _loaded(self, path: Path, runtime: Runtime) -> dict[str, Tensor]:
        load_weights(self._model, path)
        runtime.place(self._model)
        return {name: tensor.detach().clone() for name, tensor in self._tensors().items()}

    def _tensors(self) -> dict[str, Tensor]:
        return {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
