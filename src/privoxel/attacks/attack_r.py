"""Attack-R: how many models that never saw the scan err more on it than the target does.

A target that errs less than nearly all reference models without that participant was probably trained on
them. The score is the share of OUT references with a larger |residual|, ties counted half. Its steps are
1/K, so a false-positive rate below 1/K cannot be reached.
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
class AttackR(OnReferences):
    """Share of OUT references whose |residual| is larger than the target's, 0 to 1."""

    name: str = "attack-r"
    title: str = "Attack-R (rank among references)"

    source = "Ye et al. 2022 (CCS), attack R (reference models); on the absolute residual"

    def score(
        self,
        target: SignalTable,
        knowledge: Knowledge,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is random
    ) -> Scored:
        """Return the share of OUT references that err more on each scan of ``target``.

        Raises:
            SignalError: if references, a signal, or an OUT reference of a scan are missing.
        """
        return scored_by(self, target, knowledge, _ranks)


def _ranks(references: References) -> Scorer:
    def shares(scans: SignalTable) -> FloatArray:
        seen = references.compare(scans)
        enough(references.name, seen.outside, 1, "OUT", of=scans)
        here, there = np.abs(seen.target), np.abs(seen.models)
        return masked_mean((there > here) + 0.5 * (there == here), seen.outside)

    return Scorer(shares)


ATTACKS = (AttackR(),)
