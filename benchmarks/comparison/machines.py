"""An RBF-SVM for each of the paper's feature sets: the baseline is the better of it and the paper's encoder.

The same features, standardised on the leaked scans as the encoders' are; scikit-learn's default penalty and
kernel width, classes weighed the same. These are comparisons of the benchmark and no attacks of privoxel's.
"""

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel, finite_signal, leaked_table
from privoxel.attacks.paper import CONV1, CONV5_ACTIVATION, CONV6, HIDDEN, OUTPUT, PAPER
from privoxel.attacks.standardise import fit_standardiser
from privoxel.signals.table import GRADIENT_NORMS, PREDICTION, SignalTable

ERROR = "error"
"""The signed error, prediction minus age; not a stored signal."""


@final
@dataclass(frozen=True)
class FeatureMachine:
    """Signed distance to the boundary of an RBF-SVM on standardised ``features``; above 0 is a member."""

    name: str
    features: tuple[str, ...]

    threat_model = ThreatModel.WHITE_BOX
    needs_leaked = True
    source = f"features of {PAPER}; classifier: Cortes & Vapnik 1995"

    @property
    def title(self) -> str:
        """What a reader sees."""
        return f"{self.name} (RBF-SVM)"

    @property
    def requires(self) -> frozenset[str]:
        """Signals that target and leaked table must hold."""
        return frozenset(name for name in self.features if name != ERROR) | {PREDICTION}

    def score(
        self,
        target: SignalTable,
        knowledge: Knowledge,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is random
    ) -> Scored:
        """Return the decision value of each scan of ``target``.

        Raises:
            SignalError: if a signal or leaked participants are missing, or a value is not finite.
        """
        from sklearn.svm import SVC  # noqa: PLC0415 - listing attacks stays quick

        leaked = leaked_table(self, target, knowledge)
        names = list(self.features)
        if OUTPUT in names and HIDDEN in leaked.values:
            names.append(HIDDEN)
        known, unknown = (
            np.concatenate(part, axis=1)
            for part in zip(*map(self._scaled(leaked, target), names), strict=True)
        )
        machine: Any = SVC(class_weight="balanced").fit(known, leaked.is_member())
        return Scored(np.asarray(machine.decision_function(unknown), dtype=np.float64), 0.0)

    def _scaled(self, leaked: SignalTable, target: SignalTable) -> Any:
        def one(name: str) -> tuple[FloatArray, FloatArray]:
            known, unknown = self._values(name, leaked), self._values(name, target)
            scaling = fit_standardiser(known)
            return scaling.vectors(known).astype(np.float64), scaling.vectors(unknown).astype(np.float64)

        return one

    def _values(self, name: str, table: SignalTable) -> FloatArray:
        if name == ERROR:
            return table.error()[:, None]
        values = finite_signal(self, table, name).astype(np.float64)
        # prediction and age span the plane of error and age, which has no two nearly equal axes
        return np.column_stack([values - table.age, table.age]) if name == PREDICTION else values


MACHINES = (
    FeatureMachine("activation-svm", (CONV5_ACTIVATION,)),
    FeatureMachine("error-svm", (ERROR,)),
    FeatureMachine("gradient-magnitude-svm", (GRADIENT_NORMS,)),
    FeatureMachine("gradient-conv1-svm", (CONV1,)),
    FeatureMachine("gradient-output-svm", (OUTPUT,)),
    FeatureMachine("gradient-conv6-svm", (CONV6,)),
    FeatureMachine("prediction-label-svm", (PREDICTION,)),
    FeatureMachine("combined-svm", (PREDICTION, CONV6, OUTPUT)),
)
