"""BASE: the target's log-likelihood of the age against the mean likelihood of the references.

score = −l(x) − log mean_k exp(−l_k(x)), where l = −log p up to a constant that cancels; p is a Gaussian (or
Student) density of the residual with one scale, the SD of OUT residuals within scans (``residual_scale``).
Offline the mean is over OUT references, online over all that are IN or OUT.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel
from privoxel.attacks.references import (
    Centre,
    Likelihood,
    References,
    enough,
    log_likelihood,
    log_mean_exp,
    references_of,
    residual_scale,
    threshold_from,
)
from privoxel.signals.table import PREDICTION, SignalTable


@final
@dataclass(frozen=True)
class Base:
    """Log-ratio of the target's likelihood to the mean likelihood of the references (nats)."""

    name: str = "base"
    title: str = "BASE (log-sum-exp ratio)"
    likelihood: Likelihood = Likelihood.GAUSSIAN
    online: bool = False
    centre: Centre = Centre.NONE

    threat_model = ThreatModel.BLACK_BOX
    requires = frozenset({PREDICTION})
    needs_leaked = False
    needs_models = True
    source = "Lassila et al. 2025 (BASE), as implemented in LeakPro; Gaussian likelihood of the residual ours"

    def score(
        self,
        target: SignalTable,
        knowledge: Knowledge,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is random
    ) -> Scored:
        """Return the log-ratio of each scan of ``target``.

        Raises:
            SignalError: if references, a signal, or a reference of a scan are missing.
        """
        references = references_of(self, target, knowledge, self.centre)
        scale, said = residual_scale(references)
        scores = self._ratios(references, target, scale)
        leaked = knowledge.leaked
        known = self._ratios(references, leaked, scale) if leaked else None
        threshold = threshold_from(scores, known, leaked)
        return Scored(scores, threshold.value, (*references.notes, *said, *threshold.notes))

    def _ratios(self, references: References, scans: SignalTable, scale: float) -> FloatArray:
        seen = references.compare(scans)
        used = seen.outside | seen.inside if self.online else seen.outside
        enough(self.name, used, 1, "IN or OUT" if self.online else "OUT", of=scans)
        mean = log_mean_exp(log_likelihood(seen.models, scale, self.likelihood), used)
        return log_likelihood(seen.target, scale, self.likelihood) - mean


ATTACKS = (Base(), Base("base-student", "BASE (Student likelihood)", Likelihood.STUDENT))
