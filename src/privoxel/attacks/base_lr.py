"""BASE: the target's log-likelihood of the age against the mean likelihood of the references.

Online, with references IN and OUT, score = −l(x) − log mean_k exp(−l_k(x)), where l = −log p and p is a
Gaussian (or Student) density of the residual with one scale, the SD of OUT residuals within scans
(``residual_scale``). Offline the mean is over OUT references alone, which say too little for a member, and
its logarithm counts 0.33 times (LeakPro's ``offline_scale_factor``). So that this has a meaning, densities
are relative to their peak, p ≤ 1 (``log_likelihood``), as the probabilities of a classifier are.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import Knowledge, Scored
from privoxel.attacks.likelihoods import Likelihood, log_likelihood, log_mean_exp, residual_scale
from privoxel.attacks.references import (
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
    """Log-ratio of the target's likelihood to the mean likelihood of the references (nats).

    ``offline_factor`` multiplies the logarithm of that mean where no IN reference is in it.
    """

    name: str = "base"
    title: str = "BASE (log-sum-exp ratio)"
    likelihood: Likelihood = Likelihood.GAUSSIAN
    online: bool = False
    offline_factor: float = 0.33

    source = "Lassila et al. 2025 (BASE; section not seen), as in LeakPro's base.py; likelihoods ours"

    @property
    def fewest(self) -> tuple[int, int]:
        """References that every scan needs, IN and OUT."""
        return (1, 1) if self.online else (0, 1)

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
        return scored_by(self, target, knowledge, self._scorer)

    def _scorer(self, references: References) -> Scorer:
        scale, said = residual_scale(references)

        def ratios(scans: SignalTable) -> FloatArray:
            seen = references.compare(scans)
            enough(self.name, seen.outside, 1, "OUT", of=scans)
            here = log_likelihood(seen.target, scale, self.likelihood)
            there = log_likelihood(seen.models, scale, self.likelihood)
            if not self.online:
                return here - self.offline_factor * log_mean_exp(there, seen.outside)
            enough(self.name, seen.inside, 1, "IN", of=scans)
            return here - log_mean_exp(there, seen.outside | seen.inside)

        return Scorer(ratios, said)


ATTACKS = (
    Base(),
    Base("base-student", "BASE (Student likelihood)", Likelihood.STUDENT),
    Base("base-online", "BASE, online", online=True),
)
