"""Weight pruning: ever more of the kernels' weights are zero, and stay so.

FedSparsify's rule (Stripelis et al. 2022, arXiv 2208.11669) with epochs in the place of rounds: after each,
the smallest weights become zero, a share that rises by the schedule of Zhu and Gupta (2017, eq. 1).
"""

from collections.abc import Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from privoxel.arrays import IntArray
from privoxel.training.pruning import kept, pruned, sparsity_at
from privoxel.training.steps import Steps


@final
class Pruned:
    """Steps that only change weights that are left, and leave fewer after each epoch."""

    def __init__(self, inner: Steps, model: nn.Module, *, final_share: float, epochs: int) -> None:
        """Prune ``model`` until ``final_share`` of its kernels' weights is zero after ``epochs``."""
        self._inner, self._model, self._final, self._epochs = inner, model, final_share, epochs
        self._masks: list[tuple[nn.Parameter, Tensor]] = []

    def batches(self, epoch: int, done: int = 0) -> Iterator[IntArray]:
        """Yield the rows of every update."""
        if not done:
            self._masks = kept(self._model)
        return self._inner.batches(epoch, done)

    def update(self, rows: IntArray) -> Tensor:
        """Make one update and set pruned weights back to zero, which momentum and decay may have moved."""
        residual = self._inner.update(rows)
        with torch.no_grad():
            for parameter, mask in self._masks:
                parameter.mul_(mask)
        return residual

    def finish(self, epoch: int) -> None:
        """Set the smallest weights to zero."""
        self._inner.finish(epoch)
        weights = {name: p.detach().cpu().numpy() for name, p in self._model.named_parameters()}
        found = pruned(weights, sparsity_at(epoch, self._epochs, self._final))
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                if found[name] is not weights[name]:
                    parameter.mul_(torch.from_numpy(found[name] != 0).to(parameter.device))

    def facts(self, epoch: int) -> Mapping[str, str]:
        """Return the share of zeros there is."""
        kernels = [p for p in self._model.parameters() if p.dim() > 1]
        zeros = sum(int((p == 0).sum()) for p in kernels) / sum(p.numel() for p in kernels)
        return {**self._inner.facts(epoch), "defence.zero_share": f"{zeros:.4f}"}

    def state_dict(self) -> dict[str, Any]:
        """Return the state, with the masks of the epoch."""
        return {"inner": self._inner.state_dict(), "masks": [mask for _, mask in self._masks]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state."""
        self._inner.load_state_dict(state["inner"])
        parameters = (parameter for parameter, _ in kept(self._model))
        self._masks = list(zip(parameters, state["masks"], strict=True))
