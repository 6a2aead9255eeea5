"""InfoRMIA: how many nats the scan saves the target, beyond what the population does.

score(x) = log p(x | θ) / p(x) + KL(p(z) ‖ p(z | θ)), a Bayes factor in the place of RMIA's counting:

    log p(θ | x) − E_z log p(θ | z) = log p(x | θ) / p(x) − E_z log p(z | θ) / p(z),  z ~ p(z)  (Bayes' rule).

The second term is one number for all scans of a target, estimated as Σ p(z) log(p(z) / p(z | θ)) / Σ p(z)
over population scans z. So within one target InfoRMIA ranks scans as RMIA would with an endless population
(and as ours does, which orders ties by the ratio); what differs is its scale: at 0 the scan is explained as
the population is, so scores of different targets can be compared. p(x) and the Gaussian p(x | θ) are those of
RMIA (``likelihoods.LogRatio``). Without any population the second term is left out, and the notes say so.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import Knowledge, Scored
from privoxel.attacks.likelihoods import Likelihood, LogRatio, residual_scale
from privoxel.attacks.references import OnReferences, References, Scorer, scored_by
from privoxel.signals.table import SignalTable

NO_POPULATION = "divergence=none (no population; ranks do not depend on it)"


@final
@dataclass(frozen=True)
class InfoRmia(OnReferences):
    """Log-ratio of the scan under the target plus the population's divergence (nats).

    ``a`` is RMIA's offline slope (0.3), fixed beforehand.
    """

    name: str = "informia"
    title: str = "InfoRMIA"
    likelihood: Likelihood = Likelihood.GAUSSIAN
    a: float = 0.3

    source = "Tao & Shokri 2026 (ICLR, arXiv 2510.05582), statistic (section not seen); likelihoods ours"

    def score(
        self,
        target: SignalTable,
        knowledge: Knowledge,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is random
    ) -> Scored:
        """Return the statistic of each scan of ``target``.

        Raises:
            SignalError: if references or a signal are missing, or all of them saw the whole population.
        """
        population = knowledge.population
        if population is None and knowledge.leaked is not None:
            population = knowledge.leaked.select(~knowledge.leaked.is_member())

        def scorer(references: References) -> Scorer:
            return self._scorer(references, population)

        return scored_by(self, target, knowledge, scorer)

    def _scorer(self, references: References, population: SignalTable | None) -> Scorer:
        scale, said = residual_scale(references)
        ratio = LogRatio(references, scale, self.likelihood, self.a)
        if population is None:
            return Scorer(ratio, (*said, NO_POPULATION))
        gain = divergence(ratio, population)
        return Scorer(lambda scans: ratio(scans) + gain, said)


def divergence(ratio: LogRatio, population: SignalTable) -> float:
    """Return the estimate of KL(p(z) ‖ p(z | θ)) over the population scans that some reference left out."""
    usable = ratio.usable(population)
    weights: FloatArray = np.exp(ratio.log_marginal(usable))
    return float(-np.sum(weights * ratio(usable)) / weights.sum())


ATTACKS = (InfoRmia(),)
BY_NAME = (InfoRmia("informia-student", "InfoRMIA (Student likelihood)", Likelihood.STUDENT),)
"""Ranks scans of a target as ``rmia-student`` does: for comparing scores of different targets."""
