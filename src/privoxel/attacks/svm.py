"""The paper's prediction + label row without a network: a support vector machine on error and age.

Prediction and age are nearly the same number; their difference and the age span the same plane and are
well scaled, so that a smooth kernel finds where in age the model fitted its members closely.
"""

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel, finite_errors, leaked_table
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.thresholds import best_threshold
from privoxel.signals.table import PREDICTION, SignalTable


@final
@dataclass(frozen=True)
class PredictionLabelMachine:
    """Signed distance to the boundary of an RBF-SVM on (signed error, age), both standardised."""

    inverse_penalty: float = 1.0

    name = "prediction-label-svm"
    title = "prediction + label (SVM)"
    threat_model = ThreatModel.BLACK_BOX
    requires = frozenset({PREDICTION})
    needs_leaked = True
    source = "features of Gupta et al. 2021, table 1 (prediction + label); classifier: Cortes & Vapnik 1995"

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return decision values and the best threshold on out-of-fold ones.

        Raises:
            SignalError: if a signal or leaked participants are missing, or an error is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        known, unknown = (
            np.column_stack([finite_errors(self, table), table.age]) for table in (leaked, target)
        )
        members, folds = leaked.is_member(), leaked_folds(leaked, rng)

        def decide(fit: IntArray, rows: IntArray) -> FloatArray:
            return _decision(self._fitted(known[fit], members[fit]), known[rows])

        threshold = best_threshold(out_of_fold(decide, folds), members)
        return Scored(_decision(self._fitted(known, members), unknown), threshold)

    def _fitted(self, features: FloatArray, members: BoolArray) -> Any:
        from sklearn.pipeline import make_pipeline  # noqa: PLC0415 - listing attacks stays quick
        from sklearn.preprocessing import StandardScaler  # noqa: PLC0415
        from sklearn.svm import SVC  # noqa: PLC0415

        machine = SVC(C=self.inverse_penalty, class_weight="balanced")
        return make_pipeline(StandardScaler(), machine).fit(features, members)


def _decision(machine: Any, features: FloatArray) -> FloatArray:
    return np.asarray(machine.decision_function(features), dtype=np.float64)


PREDICTION_LABEL_SVM = PredictionLabelMachine()
ATTACKS = (PREDICTION_LABEL_SVM,)
