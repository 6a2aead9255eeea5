"""Model averaging: the mean of the weights at the ends of the last epochs is what is released.

Stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407, algorithm 1) with the training's own
learning rate and a cycle of one epoch. The training itself is not changed.
"""

from collections.abc import Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from privoxel.arrays import IntArray
from privoxel.errors import ModelError
from privoxel.training.steps import Steps


@final
class Averaged:
    """Steps whose model becomes, after the last epoch, the mean over the last epochs."""

    def __init__(self, inner: Steps, model: nn.Module, *, last: int, epochs: int) -> None:
        """Average over the ``last`` of ``epochs`` epochs of ``inner``.

        Raises:
            ModelError: if the model keeps running statistics, which are not those of averaged weights.
        """
        running = [name for name, _ in model.named_buffers() if "running_" in name]
        if running:
            raise ModelError(
                f"average_last needs a model without running statistics, got {', '.join(running[:3])}. "
                "Use instance or group normalisation."
            )
        self._inner, self._model, self._first, self._epochs = inner, model, epochs - last, epochs
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def batches(self, epoch: int, done: int = 0) -> Iterator[IntArray]:
        """Yield the rows of every update."""
        return self._inner.batches(epoch, done)

    def update(self, rows: IntArray) -> Tensor:
        """Make one update."""
        return self._inner.update(rows)

    def finish(self, epoch: int) -> None:
        """Take up the weights if the epoch is one of the last, and after the last put their mean in place."""
        self._inner.finish(epoch)
        if epoch <= self._first:
            return
        for name, parameter in self._model.named_parameters():
            value = parameter.detach().double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1
        if epoch == self._epochs:
            with torch.no_grad():
                for name, parameter in self._model.named_parameters():
                    parameter.copy_(self._sums[name] / self._count)

    def facts(self, epoch: int) -> Mapping[str, str]:
        """Return how many epochs the weights after ``epoch`` are the mean of."""
        count = self._count if epoch == self._epochs else 0
        return {**self._inner.facts(epoch), "defence.averaged_epochs": str(count)}

    def state_dict(self) -> dict[str, Any]:
        """Return the state, with the sums so far."""
        return {"inner": self._inner.state_dict(), "sums": self._sums, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state."""
        self._inner.load_state_dict(state["inner"])
        self._sums, self._count = dict(state["sums"]), int(state["count"])
