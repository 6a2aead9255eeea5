"""Label noise: every participant trains the model with an age that is a little wrong, always the same one.

Drawn once and not anew in every epoch: with a squared error, fresh noise averages out over epochs and the
model memorises the true age after all.
"""

from dataclasses import dataclass, replace
from typing import final

import torch

from privoxel.seeding import Streams
from privoxel.training.batch import Batch


@final
@dataclass(frozen=True)
class LabelNoise:
    """Adds to the age of each participant a normal error of SD ``years``."""

    years: float
    streams: Streams

    def error(self, participant: str) -> float:
        """Return the error (years) of a participant's age, the same for all of their scans."""
        return self.years * float(self.streams.generator(participant).standard_normal())

    def __call__(self, batch: Batch) -> Batch:
        """Return ``batch`` with wrong ages."""
        errors = [self.error(scan.participant) for scan in batch.scans]
        return replace(batch, ages=batch.ages + torch.tensor(errors).to(batch.ages))
