"""A learner that changes its update: it climbs the loss of the scans it asks about before it answers.

Nasr et al. (2019, section 3.3, active attacks by a participant): if another learner trains on such a scan,
its next update pulls the loss down again; the loss of a scan that nobody trains on stays up.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from privoxel.arrays import IntArray
from privoxel.training.federated.local import LocalScans


@final
@dataclass(frozen=True)
class Ascent:
    """What the active learner does to its local model after its honest training.

    Attributes:
        learner: who does it.
        targets: rows of the scans it asks about.
        rate: step size on the weights, along the gradient of the mean squared error of a batch of targets,
            scaled to norm one; so that ``rate`` is how far one batch moves the weights.
        batch_size: targets a step.
    """

    learner: str
    targets: IntArray
    rate: float
    batch_size: int = 16


def ascend(model: nn.Module, scans: LocalScans, ascent: Ascent) -> nn.Module:
    """Move the weights of ``model`` up the loss of the targets, one step a batch, in place, and return it."""
    cohort, runtime = scans.cohort, scans.runtime
    ages = cohort.covariates.age
    parameters = list(model.parameters())
    model.eval()
    for start in range(0, len(ascent.targets), ascent.batch_size):
        rows = ascent.targets[start : start + ascent.batch_size]
        age = torch.as_tensor(ages[rows], dtype=torch.float32, device=runtime.device)
        loss = (model(runtime.volumes(cohort.batch(rows))).float() - age).square().mean()
        gradients = torch.autograd.grad(loss, parameters)
        size = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt().clamp_min(1e-12)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.add_(gradient / size, alpha=ascent.rate)
    return model
