"""A stack of small classifiers over groups of signals, in the place of the paper's encoders.

Encoders of tens of thousands of weights are too much for 25 to 200 leaked people, and a linear classifier on
raw gradients fails: a gradient is the error times the gradient of the prediction, so its sign follows the
sign of the error and both classes lie around zero. Features here have no such symmetry: logarithms of
norms, and gradients multiplied by the sign of the error, randomly projected. Each group (error and age,
norms, one gradient each) is standardised and reduced to principal components; a ridge logistic regression and
an RBF-SVM read it. Their out-of-fold decisions are weighed by one more ridge logistic regression
(stacked generalisation, Wolpert 1992, section 2). Scaling, components and classifiers are fitted without
the fold they score.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.attacks.base import (
    Knowledge,
    Scored,
    ThreatModel,
    finite_errors,
    finite_signal,
    leaked_table,
)
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.thresholds import best_threshold
from privoxel.signals.table import GRADIENT, GRADIENT_NORMS, PREDICTION, SignalTable

CHUNK = 512
LOG_FLOOR = 1e-6
SMALL_ERROR = 0.1


class Group(NamedTuple):
    """Features of one group of signals: scans × features of the leaked and of the target table."""

    leaked: FloatArray
    target: FloatArray


@final
@dataclass(frozen=True)
class StackedAttack:
    """Log-odds of membership from all groups together.

    ``width`` is the number of random projections of a gradient, ``components`` the most principal components
    of a group, ``inverse_penalty`` that of each logistic regression.
    """

    width: int = 64
    components: int = 8
    inverse_penalty: float = 0.1

    name = "stacked"
    title = "stacked signals"
    threat_model = ThreatModel.WHITE_BOX
    requires = frozenset({PREDICTION, GRADIENT_NORMS})
    needs_leaked = True
    source = "stacked generalisation, Wolpert 1992 (section 2), on the features of Gupta et al. 2021, table 1"

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return log-odds and the best threshold on out-of-fold ones.

        Every ``gradient:`` signal that both tables hold is read besides those required.

        Raises:
            SignalError: if a signal or leaked participants are missing, or a value is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        members, folds = leaked.is_member(), leaked_folds(leaked, rng)
        groups = self._groups(leaked, target, int(rng.integers(2**31)))
        everyone = np.arange(len(leaked))
        held_out, decided = [], []
        for group in groups:
            for kind in ("logistic", "kernel"):

                def decide(
                    fit: IntArray,
                    rows: IntArray,
                    group: Group = group,
                    kind: str = kind,
                ) -> FloatArray:
                    return self._decision(kind, group.leaked[fit], members[fit], group.leaked[rows])

                held_out.append(out_of_fold(decide, folds))
                decided.append(self._decision(kind, group.leaked, members, group.target))
        below, above = np.column_stack(held_out), np.column_stack(decided)

        def weigh(fit: IntArray, rows: FloatArray) -> FloatArray:
            return self._decision("logistic", below[fit], members[fit], rows)

        threshold = best_threshold(out_of_fold(lambda fit, rows: weigh(fit, below[rows]), folds), members)
        notes = (f"stacked groups={len(groups)}",)
        return Scored(weigh(everyone, above), threshold, notes)

    def _groups(self, leaked: SignalTable, target: SignalTable, seed: int) -> list[Group]:
        gradients = sorted(
            name for name in leaked.values if name.startswith(GRADIENT) and name in target.values
        )
        tables = (leaked, target)
        groups = [Group(*(self._error_features(table) for table in tables))]
        groups.append(Group(*(_logs(finite_signal(self, table, GRADIENT_NORMS)) for table in tables)))
        for number, name in enumerate(gradients):
            groups.append(Group(*(self._gradient_features(table, name, seed + number) for table in tables)))
        return groups

    def _error_features(self, table: SignalTable) -> FloatArray:
        error = finite_errors(self, table)
        size, age = np.abs(error), (table.age - 60.0) / 10.0
        return np.column_stack([size, np.log(size + SMALL_ERROR), error, age, error * age, size * age])

    def _gradient_features(self, table: SignalTable, name: str, seed: int) -> FloatArray:
        """Return log ‖g‖ and the projections of sign(error)·g, the latter as signed logarithms."""
        parts = []
        for start in range(0, len(table), CHUNK):
            part = table.select(np.arange(start, min(start + CHUNK, len(table))))
            values = finite_signal(self, part, name).reshape(len(part), -1).astype(np.float64)
            turned = values * np.where(finite_errors(self, part) < 0.0, -1.0, 1.0)[:, None]
            parts.append(
                np.column_stack([_logs(np.linalg.norm(values, axis=1)[:, None]), self._project(turned, seed)])
            )
        return np.concatenate(parts) if parts else np.empty((0, self.width + 1))

    def _project(self, values: FloatArray, seed: int) -> FloatArray:
        """Return ``values`` projected to ``width`` numbers by a matrix that depends on the seed alone."""
        if values.shape[1] <= self.width:
            return values
        matrix = np.random.default_rng(seed).standard_normal((values.shape[1], self.width))
        return np.asarray(values @ matrix / np.sqrt(self.width))

    def _decision(self, kind: str, known: FloatArray, members: BoolArray, unknown: FloatArray) -> FloatArray:
        """Return the decision values on ``unknown`` of a classifier fitted to ``known``."""
        model = self._pipeline(kind, min(self.components, *known.shape)).fit(known, members)
        return np.asarray(model.decision_function(unknown), dtype=np.float64)

    def _pipeline(self, kind: str, components: int) -> Any:
        from sklearn.decomposition import PCA  # noqa: PLC0415 - listing attacks stays quick
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
        from sklearn.pipeline import make_pipeline  # noqa: PLC0415
        from sklearn.preprocessing import StandardScaler  # noqa: PLC0415
        from sklearn.svm import SVC  # noqa: PLC0415

        classifier = (
            SVC(class_weight="balanced")
            if kind == "kernel"
            else LogisticRegression(C=self.inverse_penalty, class_weight="balanced", max_iter=1000)
        )
        reduced = PCA(components, svd_solver="full")
        return make_pipeline(StandardScaler(), reduced, StandardScaler(), classifier)


def _logs(norms: Any) -> FloatArray:
    """Return log norms; a structural zero, below 10⁻⁶ of the scan's largest norm, counts as that floor."""
    sizes = np.asarray(norms, dtype=np.float64)
    floor = np.maximum(LOG_FLOOR * sizes.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray(np.log(np.maximum(sizes, floor)))


STACKED = StackedAttack()
ATTACKS = (STACKED,)
