"""The default attack: a blend of plain statistics, or a richer attack that is clearly better on leaked scans.

No statistic is best on every model: centring and the tube gain on some and only add variance on others. Their
scores are blended with weights that favour what orders the leaked scans best (``weighting.py``), so that
little is lost whichever that is. Attacks with more to fit, of prediction and label or of gradients, are
cross-validated against the blend on the leaked participants. The standard-error rule (Breiman et al. 1984),
here with two standard errors, takes the first in the list whose mean loss of AUC to the best is within two
standard errors of that paired difference over folds. The evaluated scans have no part in weights or choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.attacks.base import (
    Attack,
    CrossFitted,
    Knowledge,
    Scored,
    ThreatModel,
    finite_signal,
    leaked_table,
    optional_signals,
)
from privoxel.attacks.centred import CENTRED_ERROR
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.stacked import STACKED
from privoxel.attacks.svm import PREDICTION_LABEL_SVM
from privoxel.attacks.threshold import ABS_ERROR, GRADIENT_NORM
from privoxel.attacks.thresholds import best_threshold
from privoxel.attacks.tube import TUBE
from privoxel.attacks.weighting import auc_of, weigh
from privoxel.executor import one_thread
from privoxel.signals.table import GRADIENT_NORMS, PREDICTION, SignalTable

FEWEST = 4
"""Leaked participants of each class that weights and a choice need; with fewer, |error| is taken."""
MARGIN = 2.0


class Choice(NamedTuple):
    """The chosen attack, and the AUC of every candidate (rows) in every fold (columns)."""

    attack: Attack
    aucs: FloatArray


@final
@dataclass(frozen=True)
class Blend:
    """Weighted mean of the scores of ``parts`` (``weighting.py``)."""

    parts: tuple[Attack, ...] = (ABS_ERROR, CENTRED_ERROR, TUBE)
    temperature: float = 0.02

    name = "blend"
    title = "blend of |error|, centred error and tube"
    threat_model = ThreatModel.BLACK_BOX
    requires = frozenset({PREDICTION})
    needs_leaked = True
    source = "privoxel; exponential weighting, Catoni 2004, of the parts' scores"

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return blended scores and the best threshold on out-of-fold ones; a note tells the weights.

        Raises:
            SignalError: if a signal or leaked participants are missing, or a value is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        if _is_small(leaked):
            return ABS_ERROR.score(target, knowledge, rng)
        with one_thread():
            folds = leaked_folds(leaked, rng)
            below = np.stack([held_out(part, leaked, folds, knowledge, rng) for part in self.parts])
            above = np.stack([part.score(target, knowledge, rng).scores for part in self.parts])
        weighed = weigh(below, above, leaked.is_member(), folds, temperature=self.temperature)
        shares = [f"{part.name} {w:.2f}" for part, w in zip(self.parts, weighed.weights, strict=True)]
        threshold = best_threshold(weighed.leaked, leaked.is_member())
        return Scored(weighed.target, threshold, (f"blend of {', '.join(shares)}",))


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
    source = "privoxel; standard-error rule of Breiman et al. 1984, section 3.4.3, with two standard errors"

    @property
    def uses(self) -> frozenset[str]:
        """Signals that candidates read besides those required, where there are any."""
        every = (attack.requires | optional_signals(attack) for attack in self.candidates)
        return frozenset[str]().union(*every) - self.requires

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
    """Return the first of ``candidates`` that is within two standard errors of the best on ``leaked``."""
    if _is_small(leaked):
        return Choice(ABS_ERROR, np.full((len(candidates), 1), np.nan))
    members, folds = leaked.is_member(), leaked_folds(leaked, rng)
    each_fold = [folds == fold for fold in range(int(folds.max()) + 1)]
    scores = [held_out(attack, leaked, folds, knowledge, rng) for attack in candidates]
    aucs = np.array([[auc_of(row[fold], members[fold]) for fold in each_fold] for row in scores])
    return Choice(candidates[simplest_within(aucs)], aucs)


def simplest_within(aucs: FloatArray, margin: float = MARGIN) -> int:
    """Return the first row whose mean loss to the best row is at most ``margin`` standard errors of it.

    >>> simplest_within(np.array([[0.6, 0.7, 0.8], [0.62, 0.69, 0.82], [0.5, 0.5, 0.5]]))
    0
    """
    losses = aucs[np.argmax(aucs.mean(axis=1))] - aucs
    errors = losses.std(axis=1, ddof=1) / np.sqrt(aucs.shape[1])
    return int(np.argmax(losses.mean(axis=1) <= margin * errors))


def _is_small(leaked: SignalTable) -> bool:
    people, members = leaked.covariates.participant_index, leaked.is_member()
    return min(len(np.unique(people[members == state])) for state in (True, False)) < FEWEST


def held_out(
    attack: Attack, leaked: SignalTable, folds: IntArray, knowledge: Knowledge, rng: np.random.Generator
) -> FloatArray:
    """Return the scores of leaked scans by ``attack``, each with its fold's membership hidden."""
    if isinstance(attack, CrossFitted):
        return attack.held_out(leaked, folds, rng)

    def scored(fit: IntArray, rows: IntArray) -> FloatArray:
        rest = Knowledge(leaked=leaked.select(fit), population=knowledge.population)
        return attack.score(leaked.select(rows).blinded(), rest, rng).scores

    return out_of_fold(scored, folds)


BLEND = Blend()
BLACK_BOX = CrossFittedChoice(
    name="default-black-box",
    title="cross-fitted choice (black-box)",
    threat_model=ThreatModel.BLACK_BOX,
    requires=frozenset({PREDICTION}),
    candidates=(BLEND, PREDICTION_LABEL_SVM),
)
DEFAULT = CrossFittedChoice(
    name="default",
    title="cross-fitted choice",
    threat_model=ThreatModel.WHITE_BOX,
    requires=frozenset({PREDICTION, GRADIENT_NORMS}),
    candidates=(BLEND, GRADIENT_NORM, PREDICTION_LABEL_SVM, STACKED),
)

ATTACKS = (BLEND, DEFAULT, BLACK_BOX)
