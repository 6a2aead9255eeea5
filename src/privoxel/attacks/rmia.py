"""RMIA: the scan's likelihood ratio against those of scans that are known not to be members.

ratio(x) = p(x | target) / p(x), and score(x) = share of population scans z with ratio(x) ≥ γ·ratio(z).
p(x | model) = exp(−r²/2s²) with the signed residual r and one scale s, the SD of OUT residuals within scans
(``residual_scale``). Offline p(x) = ½((1 + a)·mean_OUT p(x | k) + (1 − a)), the paper's linear guess at what
models with x would say; a is fixed beforehand and never tuned, least of all on a model paired with the
target. Online p(x) is half the mean over IN and half the mean over OUT references.

The population is ``Knowledge.population``, or the leaked non-members where none is given. Scans z that no
reference left out are dropped. With few z the share has many ties; within a step of 1/(Z + 1) the scans are
ordered by their ratio, which changes no step.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel, leaked_table
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
from privoxel.errors import SignalError
from privoxel.signals.table import PREDICTION, SignalTable


@final
@dataclass(frozen=True)
class Rmia:
    """Share of population scans that the scan's likelihood ratio is not below, 0 to 1.

    ``a`` is the paper's offline slope (0.3, its value for images), ``gamma`` the ratio's margin.
    """

    name: str = "rmia"
    title: str = "RMIA"
    likelihood: Likelihood = Likelihood.GAUSSIAN
    online: bool = False
    a: float = 0.3
    gamma: float = 1.0
    centre: Centre = Centre.NONE

    threat_model = ThreatModel.BLACK_BOX
    requires = frozenset({PREDICTION})
    needs_leaked = True
    needs_models = True
    source = "Zarifzadeh et al. 2024 (ICML), RMIA and its offline Pr(x); Gaussian likelihood ours"

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
        leaked, population = knowledge.leaked, knowledge.population
        if population is None:
            leaked = leaked_table(self, target, knowledge)
            population = leaked.select(~leaked.is_member())
        references = references_of(self, target, knowledge, self.centre)
        scale, said = residual_scale(references)
        against = np.sort(self._population_ratios(references, population, scale))
        scores = _shares(self._ratios(references, target, scale), against, self.gamma)
        known = None
        if leaked is not None:
            known = _shares(self._ratios(references, leaked, scale), against, self.gamma)
        threshold = threshold_from(scores, known, leaked)
        return Scored(scores, threshold.value, (*references.notes, *said, *threshold.notes))

    def _population_ratios(self, references: References, population: SignalTable, scale: float) -> FloatArray:
        """Return the log-ratios of the population scans that some reference left out."""
        usable = np.asarray(references.compare(population).outside.any(axis=0))
        if not usable.any():
            raise SignalError(
                f"Attack {self.name} needs population scans outside some reference, got {usable.size} that "
                "all references were trained on. Give other population scans, or leak non-members."
            )
        return self._ratios(references, population.select(usable), scale, online=False)

    def _ratios(
        self, references: References, scans: SignalTable, scale: float, online: bool | None = None
    ) -> FloatArray:
        """Return log p(x | target) − log p(x) of each scan."""
        seen = references.compare(scans)
        enough(self.name, seen.outside, 1, "OUT", of=scans)
        here = log_likelihood(seen.target, scale, self.likelihood)
        there = log_likelihood(seen.models, scale, self.likelihood)
        outside = log_mean_exp(there, seen.outside)
        if self.online if online is None else online:
            enough(self.name, seen.inside, 1, "IN", of=scans)
            return here - (np.logaddexp(log_mean_exp(there, seen.inside), outside) - np.log(2.0))
        marginal = ((1.0 + self.a) * np.exp(outside) + (1.0 - self.a)) / 2.0
        return np.asarray(here - np.log(marginal))


def _shares(ratios: FloatArray, population: FloatArray, gamma: float) -> FloatArray:
    """Return the share of the sorted ``population`` log-ratios that each is not below, ties by the ratio."""
    steps = np.searchsorted(population + np.log(gamma), ratios, side="right")
    within = 0.5 + np.arctan(ratios) / np.pi
    return np.asarray((steps + within) / (len(population) + 1.0))


ATTACKS = (Rmia(), Rmia("rmia-student", "RMIA (Student likelihood)", Likelihood.STUDENT))
