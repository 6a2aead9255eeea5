"""Mixup (Zhang et al. 2018, arXiv 1710.09412, eq. 1) for regression: the model sees only blends of two scans.

With λ from Beta(α, α) and j another scan of the batch (sometimes itself), volumes and ages become
λ x_i + (1 − λ) x_j and λ y_i + (1 − λ) y_j. The paper draws one λ for a batch; here each pair has its own.
"""

from dataclasses import dataclass, replace
from typing import final

import torch

from privoxel.seeding import Streams
from privoxel.training.batch import Batch


@final
@dataclass(frozen=True)
class Mixup:
    """Blends every scan of a batch with one of a permutation of the same batch."""

    alpha: float
    streams: Streams

    def __call__(self, batch: Batch) -> Batch:
        """Return ``batch`` with blended volumes and ages."""
        rng = self.streams.generator(batch.moment)
        partner = torch.from_numpy(rng.permutation(len(batch.ages))).to(batch.ages.device)
        share = torch.from_numpy(rng.beta(self.alpha, self.alpha, len(batch.ages))).to(batch.ages)
        wide = share.reshape(-1, 1, 1, 1, 1)
        return replace(
            batch,
            volumes=wide * batch.volumes + (1 - wide) * batch.volumes[partner],
            ages=share * batch.ages + (1 - share) * batch.ages[partner],
        )
