"""Projection: of each scan's gradient, the part that no other scan of its batch shares is taken back.

Information-theoretic defence of Stripelis et al. (2022, arXiv 2205.05249; Patterns 2024), as in the authors'
code: for every parameter tensor, the gradient of a scan is projected onto the span of the other scans'
gradients of the batch; what remains is its unique part, of which a share is kept (theirs: 0); the mean of
the results is the gradient of the update.

With G the scans' gradients (scans × weights) and K = G Gᵀ, the projection of g_i is Σ_j C_ij g_j with
C_i = K_−i⁺ k_i. The defended mean is therefore a weighted mean of the plain gradients, with weights
keep + (1 − keep) Σ_i C_ij: no basis is built.
"""

from collections.abc import Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from privoxel.arrays import IntArray
from privoxel.gradients.one_pass import Extractor
from privoxel.gradients.request import Request
from privoxel.training.job import TrainingJob, TrainingSet
from privoxel.training.reading import Reader
from privoxel.training.steps import evaluate_but_drop, make_optimiser, shuffled

SMALLEST = 1e-10
"""Directions whose eigenvalue is below this share of the largest are rounding: singular values of 1e-5."""


def shared_weights(products: Tensor, keep: float) -> Tensor:
    """Return the weight of every scan's gradient in the sum of the defended gradients.

    Args:
        products: inner products of the scans' gradients (scans, scans), float64.
        keep: share of the unique parts that is kept.
    """
    count = len(products)
    coefficients = torch.zeros_like(products)
    for scan in range(count if count > 1 else 0):
        others = [k for k in range(count) if k != scan]
        inverse = torch.linalg.pinv(products[others][:, others], rtol=SMALLEST, hermitian=True)
        coefficients[scan, others] = inverse @ products[others, scan]
    return keep + (1.0 - keep) * coefficients.sum(0)


@final
class ProjectedSteps:
    """Updates by the mean of what the scans' gradients have in common.

    A batch of one scan shares nothing: of its gradient the kept share is left.
    """

    def __init__(self, model: nn.Module, training_set: TrainingSet, job: TrainingJob, *, keep: float) -> None:
        """Prepare the updates of ``model``, which is on its device; ``keep`` of the unique parts remains."""
        self._model, self._set, self._job, self._keep = model, training_set, job, keep
        self._optimiser = make_optimiser(model, job.config)
        self._reader = Reader(training_set, job)
        self._moment = "example"
        model.eval()
        names = tuple(name for name, _ in model.named_parameters())
        example = self._reader.read(training_set.train[:2], self._moment)
        self._extractor = Extractor(
            model, Request(gradients=names), volumes=example.volumes, ages=example.ages, loss=self._loss
        )

    def batches(self, epoch: int, done: int = 0) -> Iterator[IntArray]:
        """Yield the training rows in an order of their own for each epoch."""
        evaluate_but_drop(self._model)
        for number, rows in shuffled(self._set, self._job, epoch, done):
            self._moment = f"{epoch}/{number}"
            yield rows

    def update(self, rows: IntArray) -> Tensor:
        """Make one optimiser step."""
        batch = self._reader.read(rows, self._moment)
        with self._job.runtime.autocast():
            found = self._extractor(batch.volumes, batch.ages)
        for name, parameter in self._model.named_parameters():
            gradients = found.gradients[name].flatten(1)
            exact = gradients.double()
            weights = shared_weights(exact @ exact.T, self._keep).to(gradients) / len(rows)
            parameter.grad = (weights @ gradients).view_as(parameter)
        self._optimiser.step()
        return found.prediction.float() - batch.ages

    def finish(self, epoch: int) -> None:
        """Do nothing."""

    def facts(self, epoch: int) -> Mapping[str, str]:  # noqa: ARG002
        """Return nothing beside the settings."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the optimiser's state."""
        return self._optimiser.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the optimiser's state."""
        self._optimiser.load_state_dict(state)

    def _loss(self, output: Tensor, ages: Tensor) -> Tensor:
        return (output.flatten().float() - ages).square() / self._set.loss_scale
