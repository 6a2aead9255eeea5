"""The log density of a scan's age under the model's own stated uncertainty.

A model that states a standard deviation σ (years) besides its prediction was trained on the Gaussian
likelihood: its loss on a scan is ½ (error / σ)² + log σ. Members have a small loss, by a small error, a
small σ or both.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel, finite_errors, finite_signal
from privoxel.attacks.leaked import scored_by_statistic
from privoxel.errors import SignalError
from privoxel.signals.table import PREDICTION, STATED_SD, SignalTable


@final
@dataclass(frozen=True)
class StatedLikelihood:
    """−½ (error / σ)² − log σ of each scan, σ as the model states it."""

    name = "stated-likelihood"
    title = "log density under the stated SD"
    threat_model = ThreatModel.BLACK_BOX
    requires = frozenset({PREDICTION, STATED_SD})
    needs_leaked = False
    source = "Yeom et al. 2018, adversary 2, on the Gaussian loss of Nix & Weigend 1994 (equation 1)"

    def score(
        self,
        target: SignalTable,
        knowledge: Knowledge,
        rng: np.random.Generator,  # noqa: ARG002 - the statistic is not random
    ) -> Scored:
        """Return the log density of each scan, without its constant, and the threshold.

        Raises:
            SignalError: if a signal is missing or not finite, or a stated SD is not positive.
        """
        return scored_by_statistic(self, target, knowledge, self._scores)

    def _scores(self, table: SignalTable) -> FloatArray:
        spread = finite_signal(self, table, STATED_SD).astype(np.float64)
        if not np.all(spread > 0):
            raise SignalError(
                f"Attack {self.name} needs positive standard deviations, got {int((spread <= 0).sum())} "
                "scans with others. Give them in years, or drop these scans."
            )
        return np.asarray(-0.5 * (finite_errors(self, table) / spread) ** 2 - np.log(spread))


ATTACKS = (StatedLikelihood(),)
