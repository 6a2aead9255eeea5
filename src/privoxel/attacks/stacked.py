"""A stack of small classifiers over groups of signals, in the place of the paper's encoders.

Encoders of tens of thousands of weights are too much for 25 to 200 leaked people, and a linear classifier on
raw gradients fails: a gradient is the error times the gradient of the prediction, so its sign follows the
sign of the error and both classes lie around zero. Features here have no such symmetry: logarithms of
norms, and gradients multiplied by the sign of the error, randomly projected. Small classifiers
(``classifiers.py``) read each group (error and age, norms, one gradient each). Their decisions are averaged
with weights by how well they order leaked scans out of fold (``weighting.py``); combining out-of-fold
decisions is stacked generalisation (Wolpert 1992). Scaling, components and classifiers are fitted without
the fold they score.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.attacks.base import (
    Knowledge,
    Scored,
    ThreatModel,
    finite_errors,
    finite_signal,
    leaked_table,
)
from privoxel.attacks.classifiers import Settings, check_kinds, decisions
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.thresholds import best_threshold
from privoxel.attacks.weighting import weigh
from privoxel.executor import one_thread
from privoxel.signals.table import GRADIENT, GRADIENT_NORMS, PREDICTION, SignalTable

GRADIENTS = frozenset(f"{GRADIENT}{layer}" for layer in ("conv1", "conv6", "hidden", "output"))
"""Gradients that a stack always gets where the model has such layers."""
CHUNK = 512
LOG_FLOOR = 1e-6
SMALL_ERROR = 0.1

Groups = tuple[FloatArray, ...]
"""Features of every group of signals of one table: scans × features each."""


class Leaked(NamedTuple):
    """Leaked scans and their features; a table of its own fold numbers is drawn when a stack is fitted."""

    table: SignalTable
    groups: Groups

    def select(self, rows: IntArray) -> "Leaked":
        """Return the scans at ``rows``, with the features they had."""
        return Leaked(self.table.select(rows), _rows_of(self.groups, rows))


@final
@dataclass(frozen=True)
class StackedAttack:
    """Weighted mean of the decisions on all groups.

    ``width`` is the number of random projections of a gradient, ``components`` the most principal components
    of a group, ``inverse_penalty`` that of the logistic regression, ``classifiers`` what reads each group,
    ``temperature`` that of the weights of their decisions.
    """

    width: int = 64
    components: int = 8
    inverse_penalty: float = 0.1
    temperature: float = 0.05
    classifiers: tuple[str, ...] = ("logistic", "kernel")
    name: str = "stacked"
    title: str = "stacked signals"

    threat_model = ThreatModel.WHITE_BOX
    requires = frozenset({PREDICTION, GRADIENT_NORMS})
    uses = GRADIENTS
    needs_leaked = True
    source = "privoxel; features of Gupta et al. 2021, table 1, stacked as in Wolpert 1992 (section not seen)"

    def __post_init__(self) -> None:
        check_kinds(self.classifiers)

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return combined decisions and the best threshold on out-of-fold ones.

        Every ``gradient:`` signal that both tables hold is read besides those required.

        Raises:
            SignalError: if a signal or leaked participants are missing, or a value is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        folds = leaked_folds(leaked, rng)
        names, seed = _gradients_of(leaked, target), int(rng.integers(2**31))
        with one_thread():
            known, unknown = (self._groups(table, names, seed) for table in (leaked, target))
            scored = self._stack(Leaked(leaked, known), folds, unknown)
        return scored._replace(notes=(f"stacked groups={len(known)}",))

    def held_out(self, leaked: SignalTable, folds: IntArray, rng: np.random.Generator) -> FloatArray:
        """Return the score of each leaked scan by a stack fitted without the scan's fold.

        Each gradient is read and projected once for all folds.

        Raises:
            SignalError: if a value is not finite, or a class has fewer than two participants without a fold.
        """
        names, seed = _gradients_of(leaked, leaked), int(rng.integers(2**31))
        with one_thread():
            everyone = Leaked(leaked, self._groups(leaked, names, seed))

            def scored(fit: IntArray, rows: IntArray) -> FloatArray:
                rest = everyone.select(fit)
                return self._stack(
                    rest, leaked_folds(rest.table, rng), _rows_of(everyone.groups, rows)
                ).scores

            return out_of_fold(scored, folds)

    def _stack(self, leaked: Leaked, folds: IntArray, unknown: Groups) -> Scored:
        """Return the scores of ``unknown`` and the threshold on out-of-fold scores of the leaked scans."""
        members, settings = leaked.table.is_member(), Settings(self.components, self.inverse_penalty)
        held_out, decided = [], []
        for known, others in zip(leaked.groups, unknown, strict=True):
            for kind in self.classifiers:

                def decide(
                    fit: IntArray, rows: IntArray, known: FloatArray = known, kind: str = kind
                ) -> FloatArray:
                    return decisions(kind, known[fit], members[fit], known[rows], settings)

                held_out.append(out_of_fold(decide, folds))
                decided.append(decisions(kind, known, members, others, settings))
        weighed = weigh(np.stack(held_out), np.stack(decided), members, folds, temperature=self.temperature)
        return Scored(weighed.target, best_threshold(weighed.leaked, members))

    def _groups(self, table: SignalTable, gradients: tuple[str, ...], seed: int) -> Groups:
        norms = _logs(finite_signal(self, table, GRADIENT_NORMS))
        projected = (
            self._gradient_features(table, name, seed + number) for number, name in enumerate(gradients)
        )
        return (self._error_features(table), norms, *projected)

    def _error_features(self, table: SignalTable) -> FloatArray:
        error = finite_errors(self, table)
        size, age = np.abs(error), (table.age - 60.0) / 10.0
        return np.column_stack([size, np.log(size + SMALL_ERROR), error, age, error * age, size * age])

    def _gradient_features(self, table: SignalTable, name: str, seed: int) -> FloatArray:
        """Return log ‖g‖ and the projections of sign(error)·g; what is read at once is bounded."""
        signs = np.where(finite_errors(self, table) < 0.0, -1.0, 1.0)
        matrix = self._matrix(int(np.prod(table.values[name].shape[3:])), seed)
        parts = []
        for start in range(0, len(table), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(table)))
            values = finite_signal(self, table.select(rows), name).reshape(len(rows), -1).astype(np.float64)
            projected = values if matrix is None else values @ matrix
            norms = np.sqrt(np.einsum("ij,ij->i", values, values))
            parts.append(np.column_stack([_logs(norms[:, None]), projected * signs[rows, None]]))
        return np.concatenate(parts) if parts else np.empty((0, self.width + 1))

    def _matrix(self, size: int, seed: int) -> FloatArray | None:
        """Return the projection of ``size`` numbers to ``width``, by the seed alone; none if they are few."""
        if size <= self.width:
            return None
        return np.random.default_rng(seed).standard_normal((size, self.width)) / np.sqrt(self.width)


def _gradients_of(*tables: SignalTable) -> tuple[str, ...]:
    first, *others = tables
    names = sorted(name for name in first.values if name.startswith(GRADIENT))
    return tuple(name for name in names if all(name in table.values for table in others))


def _rows_of(groups: Groups, rows: IntArray) -> Groups:
    return tuple(features[rows] for features in groups)


def _logs(norms: Any) -> FloatArray:
    """Return log norms; a structural zero, below 10⁻⁶ of the scan's largest norm, counts as that floor."""
    sizes = np.asarray(norms, dtype=np.float64)
    floor = np.maximum(LOG_FLOOR * sizes.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray(np.log(np.maximum(sizes, floor)))


STACKED = StackedAttack()
STACKED_ENSEMBLE = StackedAttack(
    classifiers=("kernel", "boosting", "network"),
    name="stacked-ensemble",
    title="stacked signals (kernel, boosting, network)",
)
ATTACKS = (STACKED, STACKED_ENSEMBLE)
