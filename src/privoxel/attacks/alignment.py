"""Alignment of a scan's gradient with the course of training: who pulled the weights where they went?

Training moves the weights by Δ between two kept snapshots, downhill on its members' losses. A member's
gradient g at the earlier snapshot therefore points against Δ more than a stranger's:

    score = mean over intervals of cos(g, −Δ)

This is the cosine attack of Li, Li & Ribeiro 2023 on a learner's update in one round of a federation
(``updates.py``), with the movement between two snapshots of central training as the update. It reads
``product:movement``, the inner product of g with Δ / ‖Δ‖ (``signals/movement.py``): one snapshot of the
table for each interval, g taken at its start. At its end it would fail: momentum carries the weights
past the members' minimum, and their gradients then point the other way.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import (
    Course,
    Knowledge,
    Scored,
    ThreatModel,
    finite_signal,
    leaked_table,
)
from privoxel.attacks.thresholds import best_threshold
from privoxel.attacks.updates import update_cosine
from privoxel.signals.table import GRADIENT_NORMS, PRODUCT, SignalTable

MOVEMENT = f"{PRODUCT}movement"


@final
@dataclass(frozen=True)
class MovementAlignment:
    """Mean cosine between a scan's gradient and minus the movement of the weights, over all intervals."""

    name = "movement-alignment"
    title = "alignment with the movement of the weights"
    course = Course.INTERVALS
    threat_model = ThreatModel.WHITE_BOX
    requires = frozenset({MOVEMENT, GRADIENT_NORMS})
    needs_leaked = True
    source = "privoxel; cosine attack of Li, Li & Ribeiro 2023 (section not seen), on central training"

    def score(
        self,
        target: SignalTable,
        knowledge: Knowledge,
        rng: np.random.Generator,  # noqa: ARG002 - the protocol's; nothing here is random
    ) -> Scored:
        """Return mean cosines, −1 to 1, and the best threshold on those of leaked scans.

        Nothing is fitted to membership but the threshold.

        Raises:
            SignalError: if a signal or leaked participants are missing, or a value is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        known, unknown = self._cosines(leaked), self._cosines(target)
        note = f"{len(target.snapshots)} intervals between snapshots"
        return Scored(unknown, best_threshold(known, leaked.is_member()), (note,))

    def _cosines(self, table: SignalTable) -> FloatArray:
        finite_signal(self, table, MOVEMENT), finite_signal(self, table, GRADIENT_NORMS)
        intervals = range(len(table.snapshots))
        products = np.stack([table.read(MOVEMENT, snapshot=k).reshape(-1) for k in intervals])
        norms = np.stack([np.linalg.norm(table.read(GRADIENT_NORMS, snapshot=k), axis=1) for k in intervals])
        cosines = update_cosine(
            products[:, None].astype(np.float64), norms.astype(np.float64), np.ones((len(products), 1))
        )
        return np.asarray(cosines[:, 0].mean(axis=0))


ATTACKS = (MovementAlignment(),)
