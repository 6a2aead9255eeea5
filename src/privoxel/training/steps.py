"""How a training updates its model: which batches an epoch has, and what is done with each."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from privoxel.arrays import IntArray
from privoxel.config import TrainingConfig
from privoxel.training.job import TrainingJob, TrainingSet
from privoxel.training.reading import Reader


class Steps(Protocol):
    """The updates of one model; a training loop goes through ``batches`` and makes an ``update`` of each."""

    def batches(self, epoch: int, done: int = 0) -> Iterator[IntArray]:
        """Put the model into training and yield the rows of every update of ``epoch`` (from 1).

        The first ``done`` updates are left out: an interrupted training, whose state was taken up, made them.
        """
        ...

    def update(self, rows: IntArray) -> Tensor:
        """Update the model once; return prediction - age (years) of each scan shown, before the update."""
        ...

    def finish(self, epoch: int) -> None:
        """Do to the model what is done at the end of ``epoch``."""
        ...

    def facts(self, epoch: int) -> Mapping[str, str]:
        """Return what is written beside the weights after ``epoch``."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs beside the weights."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of an interrupted training."""
        ...


def make_optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return Adam or plain SGD with the learning rate and weight decay of ``config``."""
    kind = torch.optim.SGD if config.optimiser == "sgd" else torch.optim.Adam
    return kind(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, foreach=True)


def shuffled(
    training_set: TrainingSet, job: TrainingJob, epoch: int, done: int
) -> Iterator[tuple[int, IntArray]]:
    """Yield number and rows of each batch of ``epoch`` from number ``done`` on, in the epoch's own order."""
    size = job.config.batch_size
    order = job.streams.generator(f"order/{epoch}").permutation(training_set.train)
    for number in range(done, -(-len(order) // size)):
        yield number, order[number * size : (number + 1) * size]


def evaluate_but_drop(model: nn.Module) -> None:
    """Put ``model`` into evaluation mode and its dropout into training: what per-scan gradients need."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.train()


@final
class PlainSteps:
    """Updates by the mean squared error of shuffled batches (Gupta et al. 2021, A.1)."""

    def __init__(self, model: nn.Module, training_set: TrainingSet, job: TrainingJob) -> None:
        """Prepare the updates of ``model``, which is on its device."""
        self._model, self._set, self._job = model, training_set, job
        self._optimiser = make_optimiser(model, job.config)
        self._reader = Reader(training_set, job)
        self._moment = "example"

    def batches(self, epoch: int, done: int = 0) -> Iterator[IntArray]:
        """Yield the training rows in an order of their own for each epoch."""
        self._model.train()
        for number, rows in shuffled(self._set, self._job, epoch, done):
            self._moment = f"{epoch}/{number}"
            yield rows

    def update(self, rows: IntArray) -> Tensor:
        """Make one optimiser step."""
        batch = self._reader.read(rows, self._moment)
        with self._job.runtime.autocast():
            prediction = self._model(batch.volumes)
        residual: Tensor = prediction.float() - batch.ages
        loss = residual.square().mean() / self._set.loss_scale
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return residual.detach()

    def finish(self, epoch: int) -> None:
        """Do nothing."""

    def facts(self, epoch: int) -> Mapping[str, str]:  # noqa: ARG002
        """Return nothing: the weights say all."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the optimiser's state."""
        return self._optimiser.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the optimiser's state."""
        self._optimiser.load_state_dict(state)
