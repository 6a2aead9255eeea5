"""BASE: the target's log-likelihood of the age against the mean likelihood of the references.

score = −l(x) − log mean_k exp(−l_k(x)), where l = −log p up to a constant that cancels; p is a Gaussian (or
Student) density of the residual with one scale, the SD of OUT residuals within scans (``residual_scale``).
Offline the mean is over OUT references, online over all that are IN or OUT.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import Knowledge, Scored
from privoxel.attacks.likelihoods import Likelihood, log_likelihood, log_mean_exp, residual_scale
from privoxel.attacks.references import (
    Centring,
    OnReferences,
    References,
    Scorer,
    enough,
    scored_by,
)
from privoxel.signals.table import SignalTable


@final
@dataclass(frozen=True)
class Base(OnReferences):
    """Log-ratio of the target's likelihood to the mean likelihood of the references (nats)."""

    name: str = "base"
    title: str = "BASE (log-sum-exp ratio)"
    likelihood: Likelihood = Likelihood.GAUSSIAN
    online: bool = False
    centre: Centring = Centring.NONE

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
        return scored_by(self, target, knowledge, self._scorer, centring=self.centre)

    def _scorer(self, references: References) -> Scorer:
        scale, said = residual_scale(references)

        def ratios(scans: SignalTable) -> FloatArray:
            seen = references.compare(scans)
            used = seen.outside | seen.inside if self.online else seen.outside
            enough(self.name, used, 1, "IN or OUT" if self.online else "OUT", of=scans)
            mean = log_mean_exp(log_likelihood(seen.models, scale, self.likelihood), used)
            return log_likelihood(seen.target, scale, self.likelihood) - mean

        return Scorer(ratios, said)


ATTACKS = (Base(), Base("base-student", "BASE (Student likelihood)", Likelihood.STUDENT))
