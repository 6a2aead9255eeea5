"""Difficulty calibration: how much less the target errs on a scan than models that never saw it.

Some brains are hard to date for every model. score = mean over OUT references of |r_k| − |r|, in years.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel
from privoxel.attacks.references import Centre, References, enough, masked_mean, references_of, threshold_from
from privoxel.signals.table import PREDICTION, SignalTable


@final
@dataclass(frozen=True)
class Difficulty:
    """Mean |residual| of the OUT references minus that of the target (years)."""

    centre: Centre = Centre.NONE

    name = "difficulty"
    title = "|error| calibrated by difficulty"
    threat_model = ThreatModel.BLACK_BOX
    requires = frozenset({PREDICTION})
    needs_leaked = False
    needs_models = True
    source = "Watson et al. 2022 (ICLR), calibrated score; on the absolute residual"

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
        references = references_of(self, target, knowledge, self.centre)
        scores = _gains(references, target)
        leaked = knowledge.leaked
        threshold = threshold_from(scores, _gains(references, leaked) if leaked else None, leaked)
        return Scored(scores, threshold.value, (*references.notes, *threshold.notes))


def _gains(references: References, scans: SignalTable) -> FloatArray:
    seen = references.compare(scans)
    enough(references.name, seen.outside, 1, "OUT", of=scans)
    return masked_mean(np.abs(seen.models), seen.outside) - np.abs(seen.target)


ATTACKS = (Difficulty(),)
