"""Whole gradients, randomly projected, and a regularised linear classifier that learns from leaked scans.

A stack reads the gradients of a few layers; here every weight of the network counts. A gradient of millions
of numbers is folded to ``projection:512``, whose inner products are those of the gradients on average, and
multiplied by the sign of the error, without which both classes lie around zero (``stacked.py``). The
principal components of the standardised numbers go to a ridge logistic regression (``classifiers.py``).
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import (
    Knowledge,
    Scored,
    ThreatModel,
    finite_errors,
    finite_signal,
    leaked_table,
)
from privoxel.attacks.classifiers import Settings
from privoxel.attacks.folds import leaked_folds
from privoxel.attacks.leaked import scored_by_logistic
from privoxel.signals.table import PREDICTION, PROJECTION, SignalTable


@final
@dataclass(frozen=True)
class ProjectedGradients:
    """Log-odds of a logistic regression on sign(error) · ``projection:512``.

    ``components`` and ``inverse_penalty`` are those of a group of the stack.
    """

    components: int = 8
    inverse_penalty: float = 0.1

    name = "projected-gradients"
    title = "projected whole gradients"
    threat_model = ThreatModel.WHITE_BOX
    requires = frozenset({PREDICTION, f"{PROJECTION}512"})
    needs_leaked = True
    source = "privoxel; projections as of Park et al. 2023, Charikar et al. 2002 (sections not seen)"

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return log-odds and the best threshold on out-of-fold ones.

        Raises:
            SignalError: if a signal or leaked participants are missing, or a value is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        members, folds = leaked.is_member(), leaked_folds(leaked, rng)
        known, unknown = (self._features(table) for table in (leaked, target))
        settings = Settings(self.components, self.inverse_penalty)
        return scored_by_logistic(known, members, folds, unknown, settings)

    def _features(self, table: SignalTable) -> FloatArray:
        signs = np.where(finite_errors(self, table) < 0.0, -1.0, 1.0)
        projected = finite_signal(self, table, f"{PROJECTION}512").astype(np.float64)
        return np.asarray(signs[:, None] * projected)


ATTACKS = (ProjectedGradients(),)
