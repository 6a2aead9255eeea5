"""The paper's ``error`` row: a random forest on the signed error alone (Gupta et al. 2021, appendix C).

The paper gives no settings; these are scikit-learn's defaults, 100 fully grown trees. Such trees on one
number memorise the leaked participants, which is why the row lies below a plain |error| threshold.
"""

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel, leaked_table
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.thresholds import best_threshold
from privoxel.errors import SignalError
from privoxel.signals.table import PREDICTION, SignalTable


@final
@dataclass(frozen=True)
class ErrorForest:
    """Share of trees that call a scan a member, from its signed error (years)."""

    trees: int = 100

    name = "error-forest"
    title = "error (random forest)"
    threat_model = ThreatModel.BLACK_BOX
    requires = frozenset({PREDICTION})
    needs_leaked = True
    source = "Gupta et al. 2021, table 1 (error) and appendix C"

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return the forest's votes, 0 to 1, and the best threshold on out-of-fold votes.

        Raises:
            SignalError: if a signal or leaked participants are missing, or an error is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        known, unknown = _errors(leaked), _errors(target)
        members, folds = leaked.is_member(), leaked_folds(leaked, rng)
        seed = int(rng.integers(2**31))

        def votes(fit: IntArray, rows: IntArray) -> FloatArray:
            return _votes(self._fitted(known[fit], members[fit], seed), known[rows])

        threshold = best_threshold(out_of_fold(votes, folds), members)
        return Scored(_votes(self._fitted(known, members, seed), unknown), threshold)

    def _fitted(self, errors: FloatArray, members: BoolArray, seed: int) -> Any:
        from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - listing attacks stays quick

        forest = RandomForestClassifier(n_estimators=self.trees, random_state=seed)
        return forest.fit(errors[:, None], members)


def _errors(table: SignalTable) -> FloatArray:
    errors = table.error()
    bad = int((~np.isfinite(errors)).sum())
    if bad:
        raise SignalError(
            f"Attack error-forest needs finite predictions and ages, got {bad} scans with other values. "
            "Extract the signal again or drop these scans."
        )
    return errors


def _votes(forest: Any, errors: FloatArray) -> FloatArray:
    """Return the forest's votes; errors between the same two thresholds of all trees are asked for once."""
    cuts = np.unique(np.concatenate([tree.tree_.threshold[tree.tree_.feature >= 0] for tree in forest]))
    cells = np.searchsorted(cuts, errors.astype(np.float32).astype(np.float64), side="left")
    _, first, back = np.unique(cells, return_index=True, return_inverse=True)
    votes = forest.predict_proba(errors[first][:, None])[:, 1]
    return np.asarray(votes, dtype=np.float64)[back]


ATTACKS = (ErrorForest(),)
