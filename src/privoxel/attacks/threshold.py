"""One number, one threshold: the plainest attacks, and the yardstick of every other.

A model that fits its training participants more closely than others makes smaller errors on them and
pulls its weights less: members have a small |prediction − age| and a small gradient. The score is the
negative of that number. With leaked participants the threshold is the one that separates them best (no
parameter is fitted, so their scores are out of fold as they stand); with none it is the median score.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel
from privoxel.attacks.leaked import scored_by_statistic
from privoxel.errors import SignalError
from privoxel.signals.table import GRADIENT_NORMS, PREDICTION, SignalTable


def negative_absolute_error(table: SignalTable) -> FloatArray:
    """Return −|prediction − age| of each scan (years)."""
    return -np.abs(table.error())


def negative_gradient_norm(table: SignalTable) -> FloatArray:
    """Return −‖g‖ of each scan: the root of the summed squares of the norms of all parameter tensors."""
    squares = np.square(table.read(GRADIENT_NORMS).astype(np.float64))
    return np.asarray(-np.sqrt(squares.sum(axis=1)))


@final
@dataclass(frozen=True)
class ThresholdAttack:
    """A threshold on one statistic of each scan; ``statistic`` is higher for likelier members."""

    name: str
    title: str
    threat_model: ThreatModel
    requires: frozenset[str]
    source: str
    statistic: Callable[[SignalTable], FloatArray]
    needs_leaked: bool = False

    def score(
        self,
        target: SignalTable,
        knowledge: Knowledge,
        rng: np.random.Generator,  # noqa: ARG002 - the statistic is not random
    ) -> Scored:
        """Return the statistic of each scan of ``target`` and the threshold.

        Raises:
            SignalError: if the signal is missing or not finite.
        """
        return scored_by_statistic(self, target, knowledge, self._finite)

    def _finite(self, table: SignalTable) -> FloatArray:
        scores = self.statistic(table)
        bad = int((~np.isfinite(scores)).sum())
        if bad:
            raise SignalError(
                f"Attack {self.name} needs finite {', '.join(sorted(self.requires))}, got {bad} scans with "
                "other values. Extract the signal again or drop these scans."
            )
        return scores


ABS_ERROR = ThresholdAttack(
    name="abs-error",
    title="|error| threshold",
    threat_model=ThreatModel.BLACK_BOX,
    requires=frozenset({PREDICTION}),
    source="Yeom et al. 2018, adversary 2 (loss threshold); not a row of Gupta et al. 2021",
    statistic=negative_absolute_error,
)

GRADIENT_NORM = ThresholdAttack(
    name="gradient-norm",
    title="gradient-norm threshold",
    threat_model=ThreatModel.WHITE_BOX,
    requires=frozenset({GRADIENT_NORMS}),
    source="Gupta et al. 2021, figure 1 (norms of members and others), read as a threshold",
    statistic=negative_gradient_norm,
)

ATTACKS = (ABS_ERROR, GRADIENT_NORM)
