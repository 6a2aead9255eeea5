"""A control without any model: can membership be told from age, sex and site alone?

If it can, members and non-members differ as people, and every attack's success is partly that difference.
Logistic regression on a cubic in standardised age and on indicators of sex and site.
"""

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel, leaked_table
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.thresholds import best_threshold
from privoxel.cohort.base import Covariates
from privoxel.signals.table import SignalTable


@final
@dataclass(frozen=True)
class CovariatesOnly:
    """Log-odds of membership given age (years), sex and site; reads no signal."""

    inverse_penalty: float = 1.0

    name = "covariates-only"
    title = "age, sex and site only"
    threat_model = ThreatModel.NO_MODEL
    requires = frozenset[str]()
    needs_leaked = True
    source = "privoxel; a control, not an attack"

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return log-odds of membership and the best threshold on out-of-fold log-odds.

        Raises:
            SignalError: if there are too few leaked participants of a class.
        """
        leaked = leaked_table(self, target, knowledge)
        known, unknown = design_matrix(leaked.covariates, [leaked.covariates, target.covariates])
        members, folds = leaked.is_member(), leaked_folds(leaked, rng)

        def log_odds(fit: IntArray, rows: IntArray) -> FloatArray:
            return _log_odds(self._fitted(known[fit], members[fit]), known[rows])

        threshold = best_threshold(out_of_fold(log_odds, folds), members)
        return Scored(_log_odds(self._fitted(known, members), unknown), threshold)

    def _fitted(self, design: FloatArray, members: BoolArray) -> Any:
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - listing attacks stays quick

        return LogisticRegression(C=self.inverse_penalty, max_iter=1000).fit(design, members)


def design_matrix(reference: Covariates, tables: list[Covariates]) -> list[FloatArray]:
    """Return for each table its scans × (age, age², age³, sexes, sites).

    Age is standardised by ``reference`` and held within its range, since a cubic explodes outside it. The
    indicators are those of the sexes and sites in ``reference``; a label it lacks has none.
    """
    mean, sd = reference.age.mean(), reference.age.std() or 1.0
    low, high = reference.age.min(), reference.age.max()

    def rows(table: Covariates) -> FloatArray:
        z = (np.clip(table.age, low, high) - mean) / sd
        indicators = [table.sex == label for label in np.unique(reference.sex)]
        indicators += [table.site == label for label in np.unique(reference.site)]
        return np.column_stack([z, z**2, z**3, *indicators]).astype(np.float64)

    return [rows(table) for table in tables]


def _log_odds(model: Any, design: FloatArray) -> FloatArray:
    return np.asarray(model.decision_function(design), dtype=np.float64)


CONTROLS = (CovariatesOnly(),)
