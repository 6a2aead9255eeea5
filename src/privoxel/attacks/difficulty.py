"""Difficulty calibration: how much less the target errs on a scan than models that never saw it.

Some brains are hard to date for every model. score = mean over OUT references of |r_k| − |r|, in years.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import Knowledge, Scored
from privoxel.attacks.references import (
    OnReferences,
    References,
    Scorer,
    enough,
    masked_mean,
    scored_by,
)
from privoxel.signals.table import SignalTable


@final
@dataclass(frozen=True)
class Difficulty(OnReferences):
    """Mean |residual| of the OUT references minus that of the target (years)."""

    name: str = "difficulty"
    title: str = "|error| calibrated by difficulty"

    source = "Watson et al. 2022 (ICLR), calibrated score (section not seen); on the absolute residual"

    def score(
        self,
        target: SignalTable,
        knowledge: Knowledge,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is random
    ) -> Scored:
        """Return by how many years the OUT references err more on each scan of ``target``.

        Raises:
            SignalError: if references, a signal, or an OUT reference of a scan are missing.
        """
        return scored_by(self, target, knowledge, _gains)


def _gains(references: References) -> Scorer:
    def gains(scans: SignalTable) -> FloatArray:
        seen = references.compare(scans)
        enough(references.name, seen.outside, 1, "OUT", of=scans)
        return masked_mean(np.abs(seen.models), seen.outside) - np.abs(seen.target)

    return Scorer(gains)


ATTACKS = (Difficulty(),)
