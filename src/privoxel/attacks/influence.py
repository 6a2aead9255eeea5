"""Self-influence on the output layer: how much a scan would move the model's own loss on it.

SIF(z) = −gᵀ H⁻¹ g (Cohen & Giryes 2022, section 3), with g the gradient of the squared error with respect to
the output layer's weights and H the curvature of the mean loss there. A scan that was trained on leaves less
to gain. For a squared error g = 2 r φ, where φ is the embedding, so the layer's Gauss-Newton
curvature is H = 2 mean(φ φᵀ), exact for a linear output, and φ = g / (2 r) comes from the same signal.

H never contains the scan that is scored. A scan's leverage is small where it helped to make H and
large for everyone else, so a curvature from the leaked members would tell only who was leaked: H comes from a
population or from leaked non-members, and for leaked scans from those of other folds.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel, finite_errors, finite_signal, leaked_table
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.thresholds import best_threshold
from privoxel.errors import SignalError
from privoxel.signals.table import GRADIENT, PREDICTION, SignalTable

OUTPUT = f"{GRADIENT}output"
SMALLEST_ERROR = 0.1


def gauss_newton(gradients: FloatArray, errors: FloatArray, *, damping: float) -> FloatArray:
    """Return 2 mean(φ φᵀ) of some scans plus ``damping`` times its mean diagonal on the diagonal.

    ``gradients`` is scans × weights (years²), ``errors`` are in years. Scans with |error| below 0.1 years are
    left out, since φ = g / (2 r) is rounding noise there.

    Raises:
        SignalError: if no scan is left.
    """
    usable = np.abs(errors) >= SMALLEST_ERROR
    if not usable.any():
        raise SignalError(
            f"Attack self-influence needs non-members with |error| above {SMALLEST_ERROR} years, got "
            f"none among {len(errors)}. Give a larger population or leak more non-members."
        )
    embeddings = gradients[usable] / (2.0 * errors[usable, None])
    curvature = 2.0 * embeddings.T @ embeddings / int(usable.sum())
    scale = float(np.trace(curvature)) / len(curvature) or 1.0
    return np.asarray(curvature + damping * scale * np.eye(len(curvature)))


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
    source = "Cohen & Giryes 2022, section 3 (self-influence function), Gauss-Newton of the output layer"

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return negative self-influences and the best threshold on out-of-fold ones.

        Raises:
            SignalError: if a signal or leaked participants are missing, or a value is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        members, folds = leaked.is_member(), leaked_folds(leaked, rng)
        known, unknown = self._gradients(leaked), self._gradients(target)
        errors, _ = finite_errors(self, leaked), finite_errors(self, target)
        if knowledge.population is not None:
            others = knowledge.population
            curvature = gauss_newton(
                self._gradients(others), finite_errors(self, others), damping=self.damping
            )
            held_out = -self_influence(known, curvature)
            return Scored(-self_influence(unknown, curvature), best_threshold(held_out, members))

        def scored(fit: IntArray, gradients: FloatArray) -> FloatArray:
            outside = fit[~members[fit]]
            curvature = gauss_newton(known[outside], errors[outside], damping=self.damping)
            return -self_influence(gradients, curvature)

        held_out = out_of_fold(lambda fit, rows: scored(fit, known[rows]), folds)
        return Scored(scored(np.arange(len(known)), unknown), best_threshold(held_out, members))

    def _gradients(self, table: SignalTable) -> FloatArray:
        return finite_signal(self, table, OUTPUT).reshape(len(table), -1).astype(np.float64)


SELF_INFLUENCE = SelfInfluence()
ATTACKS = (SELF_INFLUENCE,)
