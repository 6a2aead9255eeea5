"""Weights of several snapshots of one model, all in memory and swapped in without copying."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from privoxel.training.loop import load_weights
from privoxel.training.runtime import Runtime


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
