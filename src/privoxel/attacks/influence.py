"""Self-influence on the output layer: how much a scan would move the model's own loss on it.

SIF(z) = −gᵀ H⁻¹ g (Cohen & Giryes 2022), with g the gradient of the squared error with respect to
the output layer's weights and H the curvature of the mean loss there. A scan that was trained on leaves less
to gain. For a squared error g = 2 r φ, where φ is the embedding, so the layer's Gauss-Newton
curvature is H = 2 mean(φ φᵀ), exact for a linear output, and φ = g / (2 r) comes from the same signal.

H never contains the scan that is scored: it comes from a population or from leaked non-members, and for
leaked scans from those of other folds (``curvature.py``).
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel, finite_errors, leaked_table
from privoxel.attacks.curvature import OUTPUT, gauss_newton, output_gradients
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.thresholds import best_threshold
from privoxel.signals.table import PREDICTION, SignalTable


def self_influence(gradients: FloatArray, curvature: FloatArray) -> FloatArray:
    """Return gᵀ H⁻¹ g of each scan.

    >>> self_influence(np.array([[1.0, 2.0]]), np.diag([1.0, 2.0]))
    array([3.])
    """
    return np.asarray((gradients * np.linalg.solve(curvature, gradients.T).T).sum(axis=1))


@final
@dataclass(frozen=True)
class SelfInfluence:
    """−gᵀ H⁻¹ g on the output layer; ``damping`` is relative to the mean diagonal of H."""

    damping: float = 0.1

    name = "self-influence"
    title = "self-influence (output layer)"
    threat_model = ThreatModel.WHITE_BOX
    requires = frozenset({PREDICTION, OUTPUT})
    needs_leaked = True
    source = "Cohen & Giryes 2022, self-influence (section not seen); Gauss-Newton of the output layer"

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return negative self-influences and the best threshold on out-of-fold ones.

        Raises:
            SignalError: if a signal or leaked participants are missing, or a value is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        members, folds = leaked.is_member(), leaked_folds(leaked, rng)
        known, unknown = output_gradients(self, leaked), output_gradients(self, target)
        errors, _ = finite_errors(self, leaked), finite_errors(self, target)
        if knowledge.population is not None:
            others = knowledge.population
            curvature = gauss_newton(
                output_gradients(self, others), finite_errors(self, others), damping=self.damping
            )
            held_out = -self_influence(known, curvature)
            return Scored(-self_influence(unknown, curvature), best_threshold(held_out, members))

        def scored(fit: IntArray, gradients: FloatArray) -> FloatArray:
            outside = fit[~members[fit]]
            curvature = gauss_newton(known[outside], errors[outside], damping=self.damping)
            return -self_influence(gradients, curvature)

        held_out = out_of_fold(lambda fit, rows: scored(fit, known[rows]), folds)
        return Scored(scored(np.arange(len(known)), unknown), best_threshold(held_out, members))


SELF_INFLUENCE = SelfInfluence()
ATTACKS = (SELF_INFLUENCE,)
