"""RMIA: the scan's likelihood ratio against those of scans that are known not to be members.

ratio(x) = p(x | target) / p(x), and score(x) = share of population scans z with ratio(x) ≥ γ·ratio(z).
p(x | model) = exp(−r²/2s²) with the signed residual r and one scale s, the SD of OUT residuals within scans
(``residual_scale``). Offline p(x) = ½((1 + a)·mean_OUT p(x | k) + (1 − a)), the paper's linear guess at what
models with x would say; a is fixed beforehand and never tuned, least of all on a model paired with the
target. Online p(x) is half the mean over IN and half the mean over OUT references. p(z) is made as p(x) is:
a ratio with one kind of marginal is not to be compared with one of the other.

The population is ``Knowledge.population``, or the leaked non-members where none is given. Scans z that no
reference left out (online: or that none was trained on) are dropped; where that leaves none of a population
that was given, the leaked non-members are taken, and a note says so. With few z the share has many ties;
within a step of 1/(Z + 1) the scans are ordered by their ratio, which changes no step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import Knowledge, Scored, leaked_table
from privoxel.attacks.likelihoods import Likelihood, LogRatio, residual_scale
from privoxel.attacks.references import (
    OnReferences,
    References,
    Scorer,
    scored_by,
)
from privoxel.signals.table import SignalTable

NOT_THE_POPULATION = "population=leaked non-members (none of the population given can be compared)"


@final
@dataclass(frozen=True)
class Rmia(OnReferences):
    """Share of population scans that the scan's likelihood ratio is not below, 0 to 1.

    ``a`` is the paper's offline slope (0.3, its value for images), ``gamma`` the ratio's margin.
    """

    name: str = "rmia"
    title: str = "RMIA"
    likelihood: Likelihood = Likelihood.GAUSSIAN
    online: bool = False
    a: float = 0.3
    gamma: float = 1.0

    needs_leaked = True
    source = "Zarifzadeh et al. 2024 (ICML), algorithm 1; offline Pr(x) (section not seen); likelihoods ours"

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
        """Return the share of population scans that each scan of ``target`` is not below.

        Raises:
            SignalError: if references, a signal, or known non-members are missing.
        """
        given = knowledge.population
        leaked = knowledge.leaked if given is not None else leaked_table(self, target, knowledge)
        known = None if leaked is None else leaked.select(~leaked.is_member())
        populations = [scans for scans in (given, known) if scans is not None]

        def scorer(references: References) -> Scorer:
            return self._scorer(references, populations)

        return scored_by(self, target, knowledge, scorer)

    def _scorer(self, references: References, populations: Sequence[SignalTable]) -> Scorer:
        scale, said = residual_scale(references)
        ratio = LogRatio(references, scale, self.likelihood, self.a, self.online)
        population = next(filter(ratio.serves, populations), populations[0])
        against = np.sort(ratio(ratio.usable(population)))
        notes = said if population is populations[0] else (*said, NOT_THE_POPULATION)
        return Scorer(lambda scans: _shares(ratio(scans), against, self.gamma), notes)


def _shares(ratios: FloatArray, population: FloatArray, gamma: float) -> FloatArray:
    """Return the share of the sorted ``population`` log-ratios that each is not below, ties by the ratio."""
    steps = np.searchsorted(population + np.log(gamma), ratios, side="right")
    within = 0.5 + np.arctan(ratios) / np.pi
    return np.asarray((steps + within) / (len(population) + 1.0))


RMIA = Rmia()

ATTACKS = (
    RMIA,
    Rmia("rmia-student", "RMIA (Student likelihood)", Likelihood.STUDENT),
    Rmia("rmia-online", "RMIA, online", online=True),
)
