"""Attack-P: the place of a scan's |error| among those of a population known to be non-members.

A scan whose error is smaller than that of nearly every non-member was probably trained on. The population is
``Knowledge.population``; without one the leaked non-members stand for it. The age-conditional form
compares with people of about the same age: a Gaussian kernel weighs the population by age.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel, finite_errors, leaked_table
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.thresholds import best_threshold
from privoxel.signals.table import PREDICTION, SignalTable

FALSE_POSITIVES = 0.05
BLOCK = 1 << 20


class Sizes(NamedTuple):
    """Absolute errors (years) and ages of some scans."""

    errors: FloatArray
    ages: FloatArray

    def at(self, rows: IntArray) -> "Sizes":
        """Return those of ``rows``."""
        return Sizes(self.errors[rows], self.ages[rows])


def share_of_larger(scans: Sizes, population: Sizes, bandwidth: float | None = None) -> FloatArray:
    """Return for each scan the weighted share of the population with a larger |error|; equal ones count half.

    ``bandwidth`` is the SD of the kernel over age (years); None weighs everyone the same.

    >>> population = Sizes(np.array([0.5, 1.0, 2.0, 3.0]), np.zeros(4))
    >>> share_of_larger(Sizes(np.array([1.0]), np.zeros(1)), population)
    array([0.625])
    """
    order = np.argsort(population.errors, kind="stable")
    errors = population.errors[order]
    first, last = (np.searchsorted(errors, scans.errors, side=side) for side in ("left", "right"))
    if bandwidth is None:
        return np.asarray(1.0 - (first + last) / (2.0 * len(errors)))
    shares = np.empty(len(scans.errors))
    block = max(BLOCK // len(errors), 1)
    for start in range(0, len(shares), block):
        rows = slice(start, start + block)
        logs = -0.5 * ((population.ages[order] - scans.ages[rows, None]) / bandwidth) ** 2
        logs -= logs.max(axis=1, keepdims=True)  # the nearest person counts 1, however far away
        below = np.zeros((len(logs), len(errors) + 1))
        np.cumsum(np.exp(logs), axis=1, out=below[:, 1:])
        passed = np.take_along_axis(below, np.column_stack([first[rows], last[rows]]), axis=1).sum(axis=1)
        shares[rows] = 1.0 - 0.5 * passed / below[:, -1]
    return shares


@final
@dataclass(frozen=True)
class PopulationAttack:
    """1 − the empirical rank of |error| among non-members, of like age if ``bandwidth`` (years) is set."""

    name: str
    title: str
    bandwidth: float | None = None

    threat_model = ThreatModel.BLACK_BOX
    requires = frozenset({PREDICTION})
    needs_leaked = True
    source = "Ye et al. 2022, attack P (population attack), on |error|"

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return shares, 0 to 1, and the best threshold on out-of-fold ones.

        With a population and nobody leaked the threshold is that of 5 % false positives in the population.

        Raises:
            SignalError: if a signal, or both population and leaked participants, are missing, or an error is
                not finite.
        """
        if (
            knowledge.population is not None
            and knowledge.leaked is None
            and not target.missing(self.requires)
        ):
            scans, others = self._sizes(target, knowledge.population)
            shares = share_of_larger(scans, others, self.bandwidth)
            return Scored(shares, 1.0 - FALSE_POSITIVES, ("threshold=5 % of the population",))
        leaked = leaked_table(self, target, knowledge)
        members = leaked.is_member()
        unknown, known = self._sizes(target, leaked)
        if knowledge.population is not None:
            population = self._sizes(knowledge.population)[0]
            held_out = share_of_larger(known, population, self.bandwidth)
        else:
            population = known.at(np.flatnonzero(~members))
            held_out = out_of_fold(
                lambda fit, rows: share_of_larger(
                    known.at(rows), known.at(fit[~members[fit]]), self.bandwidth
                ),
                leaked_folds(leaked, rng),
            )
        return Scored(share_of_larger(unknown, population, self.bandwidth), best_threshold(held_out, members))

    def _sizes(self, *tables: SignalTable) -> list[Sizes]:
        return [Sizes(np.abs(finite_errors(self, table)), table.age) for table in tables]


POPULATION = PopulationAttack("population", "population (attack P)")
POPULATION_AGE = PopulationAttack("population-age", "population of the same age", bandwidth=5.0)

ATTACKS = (POPULATION, POPULATION_AGE)
