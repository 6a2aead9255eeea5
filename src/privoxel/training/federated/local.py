"""What a learner computes in a round: some epochs of plain PyTorch from the community model.

The order of the scans and the dropout come from streams named after the learner, the round and the epoch,
so that results depend neither on which learner runs first nor on which process runs it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from privoxel.arrays import IntArray
from privoxel.cohort.base import Cohort
from privoxel.seeding import Streams, torch_stream
from privoxel.training.pruning import kept
from privoxel.training.runtime import Runtime


@final
@dataclass(frozen=True)
class LocalSettings:
    """How a learner trains in one round; ``loss_scale`` divides the squared error (years²)."""

    number: int
    epochs: int
    learning_rate: float
    batch_size: int
    optimiser: str
    weight_decay: float
    loss_scale: float
    proximal_mu: float
    sparsity: float = 0.0

    @classmethod
    def received(cls, values: Mapping[str, Any]) -> "LocalSettings":
        """Return the settings of a round as the server sent them."""
        return cls(
            int(values["server-round"]),
            int(values["local-epochs"]),
            float(values["learning-rate"]),
            int(values["batch-size"]),
            str(values["optimiser"]),
            float(values["weight-decay"]),
            float(values["loss-scale"]),
            float(values["proximal-mu"]),
            float(values["sparsity"]),
        )


class LocalScans(NamedTuple):
    """The scans of one learner, and the streams that are its own."""

    cohort: Cohort
    rows: IntArray
    streams: Streams
    runtime: Runtime


def train_locally(model: nn.Module, scans: LocalScans, settings: LocalSettings) -> float:
    """Train ``model`` in place on a learner's scans, and return the last epoch's training MAE in years.

    The error is the one seen during the epoch (dropout on); it is not finite if training diverged.
    """
    cohort, rows, streams, runtime = scans
    ages = cohort.covariates.age
    anchors = [parameter.detach().clone() for parameter in model.parameters()] if settings.proximal_mu else []
    masks = kept(model) if settings.sparsity else []
    optimiser = _optimiser(model, settings)
    model.train()
    absolute_error = torch.zeros((), device=runtime.device)
    for epoch in range(1, settings.epochs + 1):
        step = f"{settings.number}/{epoch}"
        order = streams.generator(f"order/{step}").permutation(rows)
        absolute_error.zero_()
        with torch_stream(streams.seed(f"dropout/{step}")):
            for start in range(0, len(order), settings.batch_size):
                batch = order[start : start + settings.batch_size]
                volumes = runtime.volumes(cohort.batch(batch))
                age = torch.as_tensor(ages[batch], dtype=torch.float32, device=runtime.device)
                with runtime.autocast():
                    prediction = model(volumes)
                residual = prediction.float() - age
                loss = residual.square().mean() / settings.loss_scale
                if anchors:
                    loss = loss + 0.5 * settings.proximal_mu * _distance(model, anchors)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                with torch.no_grad():
                    for parameter, mask in masks:
                        parameter.mul_(mask)
                absolute_error += residual.detach().abs().sum()
    return float(absolute_error) / len(rows)


def _optimiser(model: nn.Module, settings: LocalSettings) -> torch.optim.Optimizer:
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    return kinds[settings.optimiser](
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
    )


def _distance(model: nn.Module, anchors: list[Tensor]) -> Tensor:
    """Return ‖w − w_community‖² over all weights."""
    moved = zip(model.parameters(), anchors, strict=True)
    return torch.stack([(parameter - anchor).square().sum() for parameter, anchor in moved]).sum()
