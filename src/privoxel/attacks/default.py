"""The default attack: the candidate that does best on leaked participants it was not fitted on.

No statistic is best on every model: centring and the tube gain on some and only add variance on
others. Each candidate is cross-validated on the leaked participants. The one-standard-error rule (Breiman
et al. 1984, section 3.4.3) then takes the first in the list, which runs from simple to complex, whose mean
loss of AUC to the best is within one standard error of that paired difference over folds. The evaluated
scans have no part in the choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from scipy.stats import rankdata

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.attacks.base import (
    Attack,
    CrossFitted,
    Knowledge,
    Scored,
    ThreatModel,
    finite_signal,
    leaked_table,
)
from privoxel.attacks.centred import CENTRED_ERROR
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.stacked import STACKED
from privoxel.attacks.svm import PREDICTION_LABEL_SVM
from privoxel.attacks.threshold import ABS_ERROR, GRADIENT_NORM
from privoxel.attacks.tube import TUBE
from privoxel.executor import one_thread
from privoxel.signals.table import GRADIENT_NORMS, PREDICTION, SignalTable

FEWEST = 4
"""Leaked participants of each class that a choice needs; with fewer, |error| is taken."""


class Choice(NamedTuple):
    """The chosen attack, and the AUC of every candidate (rows) in every fold (columns)."""

    attack: Attack
    aucs: FloatArray


@final
@dataclass(frozen=True)
class CrossFittedChoice:
    """The scores of one of ``candidates``, which are ordered from simple to complex."""

    name: str
    title: str
    threat_model: ThreatModel
    requires: frozenset[str]
    candidates: tuple[Attack, ...]

    needs_leaked = True
    source = "one-standard-error rule of Breiman et al. 1984 (section 3.4.3); not in Gupta et al. 2021"

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return scores and threshold of the chosen candidate; the first note names it.

        Raises:
            SignalError: if a signal or leaked participants are missing, or a value is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        usable = [
            a for a in self.candidates if not (leaked.missing(a.requires) or target.missing(a.requires))
        ]
        for table in (leaked, target):
            for signal in sorted(self.requires):
                finite_signal(self, table, signal)
        with one_thread():
            chosen = choose(usable, leaked, knowledge, rng).attack
            scored = chosen.score(target, knowledge, rng)
        return scored._replace(notes=(f"choice={chosen.name}", *scored.notes))


def choose(
    candidates: Sequence[Attack], leaked: SignalTable, knowledge: Knowledge, rng: np.random.Generator
) -> Choice:
    """Return the first of ``candidates`` that is within one standard error of the best on ``leaked``."""
    people, members = leaked.covariates.participant_index, leaked.is_member()
    if min(len(np.unique(people[members == state])) for state in (True, False)) < FEWEST:
        return Choice(candidates[0], np.full((len(candidates), 1), np.nan))
    folds = leaked_folds(leaked, rng)
    each_fold = [folds == fold for fold in range(int(folds.max()) + 1)]
    scores = [_held_out(attack, leaked, folds, knowledge, rng) for attack in candidates]
    aucs = np.array([[_auc(row[fold], members[fold]) for fold in each_fold] for row in scores])
    return Choice(candidates[simplest_within_one_se(aucs)], aucs)


def _held_out(
    attack: Attack, leaked: SignalTable, folds: IntArray, knowledge: Knowledge, rng: np.random.Generator
) -> FloatArray:
    """Return the scores of leaked scans by ``attack``, each with its fold's membership hidden."""
    if isinstance(attack, CrossFitted):
        return attack.held_out(leaked, folds, rng)

    def scored(fit: IntArray, rows: IntArray) -> FloatArray:
        rest = Knowledge(leaked=leaked.select(fit), population=knowledge.population)
        return attack.score(leaked.select(rows).blinded(), rest, rng).scores

    return out_of_fold(scored, folds)


def simplest_within_one_se(aucs: FloatArray) -> int:
    """Return the first row whose mean loss to the best row is at most the standard error of that loss.

    >>> simplest_within_one_se(np.array([[0.6, 0.7, 0.8], [0.62, 0.69, 0.82], [0.5, 0.5, 0.5]]))
    0
    """
    losses = aucs[np.argmax(aucs.mean(axis=1))] - aucs
    errors = losses.std(axis=1, ddof=1) / np.sqrt(aucs.shape[1])
    return int(np.argmax(losses.mean(axis=1) <= errors))


def _auc(scores: FloatArray, members: BoolArray) -> float:
    m, n = int(members.sum()), int((~members).sum())
    return float((rankdata(scores)[members].sum() - m * (m + 1) / 2) / (m * n))


BLACK_BOX = CrossFittedChoice(
    name="default-black-box",
    title="cross-fitted choice (black-box)",
    threat_model=ThreatModel.BLACK_BOX,
    requires=frozenset({PREDICTION}),
    candidates=(ABS_ERROR, CENTRED_ERROR, TUBE, PREDICTION_LABEL_SVM),
)
DEFAULT = CrossFittedChoice(
    name="default",
    title="cross-fitted choice",
    threat_model=ThreatModel.WHITE_BOX,
    requires=frozenset({PREDICTION, GRADIENT_NORMS}),
    candidates=(ABS_ERROR, GRADIENT_NORM, CENTRED_ERROR, TUBE, PREDICTION_LABEL_SVM, STACKED),
)

ATTACKS = (DEFAULT, BLACK_BOX)
