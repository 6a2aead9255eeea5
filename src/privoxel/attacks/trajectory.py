"""The loss or gradient norm of a scan over the course of training: members are fitted more as it goes on.

Series are snapshots × scans, oldest first: the kept weights of a training, or the rounds of a federation.
Every statistic is higher for likelier members. They fail where the scans are as well fitted as unseen ones
in every snapshot, and where a scan is simply hard from the start. The attacks here read the |error| of all
snapshots of their table, which has two at least; whoever holds the checkpoints of a training can run them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import (
    Attack,
    Course,
    Knowledge,
    Scored,
    ThreatModel,
    finite_errors,
    leaked_table,
)
from privoxel.attacks.classifiers import Settings
from privoxel.attacks.folds import leaked_folds
from privoxel.attacks.leaked import scored_by_logistic, scored_by_statistic
from privoxel.errors import SignalError
from privoxel.signals.table import PREDICTION, SignalTable

SMALL_ERROR = 0.1
"""Years added to |error| before the logarithm."""


def fall(series: FloatArray) -> FloatArray:
    """Return the first snapshot's value minus the last's: what training took off."""
    return np.asarray(series[0] - series[-1])


def interquartile_range(series: FloatArray) -> FloatArray:
    """Return the interquartile range of each scan's series.

    References:
        LT-IQR, arXiv 2411.05743.
    """
    low, high = np.quantile(series, [0.25, 0.75], axis=0)
    return np.asarray(high - low)


def absolute_errors(attack: Attack, table: SignalTable) -> FloatArray:
    """Return |error| (years) in every snapshot, snapshots × scans, oldest first.

    Raises:
        SignalError: if there is one snapshot only, or a prediction is not finite.
    """
    if len(table.snapshots) < 2:
        raise SignalError(
            f"Attack {attack.name} needs at least 2 snapshots of the training, got {len(table.snapshots)}. "
            "Lower [training] snapshot_every."
        )
    snapshots = range(len(table.snapshots))
    return np.stack([np.abs(finite_errors(attack, table, snapshot=k)) for k in snapshots])


@final
@dataclass(frozen=True)
class TrajectoryStatistic:
    """``statistic`` of each scan's |error| over all snapshots, years."""

    name: str
    title: str
    statistic: Callable[[FloatArray], FloatArray]
    source: str

    course = Course.KEPT
    threat_model = ThreatModel.WHITE_BOX
    requires = frozenset({PREDICTION})
    needs_leaked = False

    def score(
        self,
        target: SignalTable,
        knowledge: Knowledge,
        rng: np.random.Generator,  # noqa: ARG002 - the statistic is not random
    ) -> Scored:
        """Return the statistic and the threshold, without leaked scans the median.

        Raises:
            SignalError: if a signal or a second snapshot is missing, or a value is not finite.
        """
        return scored_by_statistic(
            self, target, knowledge, lambda table: self.statistic(absolute_errors(self, table))
        )


@final
@dataclass(frozen=True)
class TrajectoryClassifier:
    """Log-odds of a ridge logistic regression on the logarithms of |error| in all snapshots."""

    components: int = 8
    inverse_penalty: float = 0.1

    name = "trajectory"
    title = "trajectory of |error|"
    course = Course.KEPT
    threat_model = ThreatModel.WHITE_BOX
    requires = frozenset({PREDICTION})
    needs_leaked = True
    source = (
        "Liu et al. 2022 (CCS; section not seen), on real checkpoints; logistic regression for its network"
    )

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return log-odds and the best threshold on out-of-fold ones.

        Raises:
            SignalError: if a signal, a second snapshot or leaked participants are missing, or a value is not
            finite.
        """
        leaked = leaked_table(self, target, knowledge)
        members, folds = leaked.is_member(), leaked_folds(leaked, rng)
        known, unknown = (np.log(absolute_errors(self, t) + SMALL_ERROR).T for t in (leaked, target))
        settings = Settings(self.components, self.inverse_penalty)
        return scored_by_logistic(known, members, folds, unknown, settings)


ATTACKS: tuple[Attack, ...] = (
    TrajectoryStatistic(
        "trajectory-fall", "fall of |error| over snapshots", fall, "privoxel; first minus last |error|"
    ),
    TrajectoryStatistic(
        "trajectory-iqr",
        "spread of |error| over snapshots",
        interquartile_range,
        "LT-IQR of Pollock et al. 2024 (arXiv 2411.05743, section not seen)",
    ),
    TrajectoryClassifier(),
)
