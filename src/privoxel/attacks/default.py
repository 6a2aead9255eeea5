"""The default attack: a blend of plain statistics and richer attacks, weighed on the leaked scans.

No attack is best on every model: centring and the tube gain on some and only add variance on others, and
gradients hold more than error and age where brains differ more than the simulator's do. Their scores are
averaged with weights that favour what orders the leaked scans best (``weighting.py``), so that little is lost
whichever that is. The evaluated scans have no part in the weights.
"""

from dataclasses import dataclass
from typing import final

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
from privoxel.attacks.threshold import ABS_ERROR
from privoxel.attacks.thresholds import best_threshold
from privoxel.attacks.tube import TUBE
from privoxel.attacks.weighting import weigh
from privoxel.executor import one_thread
from privoxel.signals.table import GRADIENT_NORMS, PREDICTION, SignalTable

FEWEST = 4
"""Leaked participants of each class that weights need; with fewer, |error| is taken."""
TEMPERATURE = 0.05
"""How much better in AUC a part must be to weigh e times as much."""
PLAIN: tuple[Attack, ...] = (ABS_ERROR, CENTRED_ERROR, TUBE)


@final
@dataclass(frozen=True)
class Blend:
    """Weighted mean of the scores of ``parts`` (``weighting.py``)."""

    name: str
    title: str
    parts: tuple[Attack, ...]
    threat_model: ThreatModel = ThreatModel.BLACK_BOX
    requires: frozenset[str] = frozenset({PREDICTION})

    needs_leaked = True
    source = "privoxel; exponential weighting (Catoni 2004, section not seen) of the parts' scores"

    @property
    def uses(self) -> frozenset[str]:
        """Signals that parts read besides those required, where there are any."""
        every = (attack.requires | optional_signals(attack) for attack in self.parts)
        return frozenset[str]().union(*every) - self.requires

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return blended scores and the best threshold on out-of-fold ones; a note tells the weights.

        Raises:
            SignalError: if a signal or leaked participants are missing, or a value is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        for table in (leaked, target):
            for signal in sorted(self.requires):
                finite_signal(self, table, signal)
        if _is_small(leaked):
            return ABS_ERROR.score(target, knowledge, rng)
        with one_thread():
            folds = leaked_folds(leaked, rng)
            below = np.stack([held_out(part, leaked, folds, knowledge, rng) for part in self.parts])
            above = np.stack([part.score(target, knowledge, rng).scores for part in self.parts])
        weighed = weigh(below, above, leaked.is_member(), folds, temperature=TEMPERATURE)
        shares = [f"{part.name} {w:.2f}" for part, w in zip(self.parts, weighed.weights, strict=True)]
        threshold = best_threshold(weighed.leaked, leaked.is_member())
        return Scored(weighed.target, threshold, (f"blend of {', '.join(shares)}",))


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


BLACK_BOX = Blend("default-black-box", "blend of |error|, centred error and tube", PLAIN)
DEFAULT = Blend(
    "default",
    "blend of error, tube and stacked signals",
    (*PLAIN, STACKED),
    threat_model=ThreatModel.WHITE_BOX,
    requires=frozenset({PREDICTION, GRADIENT_NORMS}),
)

ATTACKS = (DEFAULT, BLACK_BOX)
