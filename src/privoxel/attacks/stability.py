"""Stability: how far a prediction moves when the scan is moved a little. No age is needed.

A regression trained without augmentation is pulled to a member's label at exactly the pose and noise it
saw; on a copy it falls back towards what it would have said without that scan. So members' predictions
move more. Self-calibration takes the residual off that movement, since the copies stand in for a
reference model: score = mean over copies of |f(copy) − f(scan)|, or that − |f(scan) − age|.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel, finite_errors, finite_signal
from privoxel.attacks.leaked import scored_by_statistic
from privoxel.signals.table import AUGMENTED, PREDICTION, SignalTable


def mean_change(copies: FloatArray, prediction: FloatArray) -> FloatArray:
    """Return the mean |copy − prediction| of each scan; ``copies`` is scans × copies, all in years.

    >>> mean_change(np.array([[61.0, 58.0], [50.0, 50.0]]), np.array([60.0, 50.0]))
    array([1.5, 0. ])
    """
    return np.asarray(np.abs(copies - prediction[:, None]).mean(axis=1))


@final
@dataclass(frozen=True)
class StabilityAttack:
    """Mean change of the prediction (years) under the copies in ``signal``; with ``label`` minus |error|."""

    name: str
    title: str
    signal: str
    label: bool = False

    threat_model = ThreatModel.BLACK_BOX
    needs_leaked = False
    source = "privoxel; self-calibration by augmented queries, see docs/attacks.md"

    @property
    def requires(self) -> frozenset[str]:
        """Signals that the tables must hold."""
        return frozenset({PREDICTION, self.signal})

    def score(
        self,
        target: SignalTable,
        knowledge: Knowledge,
        rng: np.random.Generator,  # noqa: ARG002 - the statistic is not random
    ) -> Scored:
        """Return the change of each scan and the threshold, without leaked scans the median.

        Raises:
            SignalError: if a signal is missing or not finite.
        """
        return scored_by_statistic(self, target, knowledge, self._scores)

    def _scores(self, table: SignalTable) -> FloatArray:
        copies = finite_signal(self, table, self.signal).astype(np.float64)
        prediction = finite_signal(self, table, PREDICTION).astype(np.float64)
        change = mean_change(copies, prediction)
        return change - np.abs(finite_errors(self, table)) if self.label else change


ATTACKS = (
    StabilityAttack("stability", "change under 1-voxel shifts", f"{AUGMENTED}shift"),
    StabilityAttack("stability-error", "change under shifts − |error|", f"{AUGMENTED}shift", label=True),
    StabilityAttack("stability-rotation", "change under small rotations", f"{AUGMENTED}rotation"),
    StabilityAttack("stability-noise", "change under added noise", f"{AUGMENTED}noise"),
)
