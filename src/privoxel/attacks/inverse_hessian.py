"""Inverse-Hessian attack (IHA) on the output layer: a scan's loss, and how it would move the optimum.

Suri, Zhang & Evans 2024 derive, for SGD near a minimum, the odds that a scan trained the model:

    s(z) = −ℓ(z) + (1/η) (‖H⁻¹ g‖² / n + 2 g₀ᵀ H⁻² g)

with ℓ the scan's loss, g its gradient, g₀ the mean gradient of the other training scans, H the Hessian of the
training loss, n the number of training scans and η the learning rate. The form is that of the authors'
code, its sign turned so that members score higher. On the output layer H is exact for a squared error
(``curvature.py``), and g₀ᵀ H⁻² g grows with the scan's signed error: the term moves the centre of the loss
to where the members lie.

What the adversary has in place of the training set: g₀ is the mean over leaked members, n their number, and
H is made of non-members; none of them ever contains the scan that is scored. Neither the learning rate nor
the damping of H is told. Both are chosen by AUC on leaked scans, scored out of fold; the target has no part.
"""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, final

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel, finite_errors, leaked_table
from privoxel.attacks.curvature import OUTPUT, gauss_newton, output_gradients
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.thresholds import best_threshold
from privoxel.attacks.weighting import auc_of
from privoxel.signals.table import PREDICTION, SignalTable


class Layer(NamedTuple):
    """Gradients at the output layer (scans × weights, years²) and errors (years)."""

    gradients: FloatArray
    errors: FloatArray

    def rows(self, rows: IntArray) -> "Layer":
        """Return the scans at ``rows``."""
        return Layer(self.gradients[rows], self.errors[rows])


def inverse_hessian_terms(
    gradients: FloatArray, mean_gradient: FloatArray, curvature: FloatArray
) -> FloatArray:
    """Return ‖H⁻¹ g‖² and g₀ᵀ H⁻² g of each scan: scans × 2.

    >>> inverse_hessian_terms(np.array([[1.0, 2.0]]), np.array([1.0, 0.0]), np.diag([1.0, 2.0]))
    array([[2., 1.]])
    """
    moved = np.linalg.solve(curvature, np.column_stack([gradients.T, mean_gradient])).T
    return np.column_stack([(moved[:-1] ** 2).sum(axis=1), moved[:-1] @ moved[-1]])


@final
@dataclass(frozen=True)
class InverseHessian:
    """IHA on the output layer; ``dampings`` are relative to the mean diagonal of H.

    ``rates`` are candidates of 1/η in units of H's largest eigenvalue, of which η allows at least a half if
    gradient descent is stable near the minimum. ``training_scans`` is n, where the adversary knows it.
    """

    dampings: tuple[float, ...] = (0.01, 0.1, 1.0)
    rates: tuple[float, ...] = (0.05, 0.15, 0.5, 1.5)
    training_scans: int | None = None

    name = "inverse-hessian"
    title = "inverse-Hessian attack (output layer)"
    threat_model = ThreatModel.WHITE_BOX
    requires = frozenset({PREDICTION, OUTPUT})
    needs_leaked = True
    source = (
        "IHA, Suri et al. 2024 (form of the authors' code, section not seen), output layer, g0, H estimated"
    )

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return IHA scores (years²) and the best threshold on out-of-fold ones; a note names the choice.

        Raises:
            SignalError: if a signal or leaked participants are missing, or a value is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        members, folds = leaked.is_member(), leaked_folds(leaked, rng)
        known, unknown = self._layer(leaked), self._layer(target)
        outside = None if knowledge.population is None else self._layer(knowledge.population)

        def scored(fit: IntArray, scans: Layer, damping: float, rate: float) -> FloatArray:
            others = known.rows(fit[~members[fit]]) if outside is None else outside
            inside = known.rows(fit[members[fit]])
            return self._scores(scans, inside, others, damping=damping, rate=rate)

        def held_out_with(damping: float, rate: float) -> FloatArray:
            return out_of_fold(lambda fit, rows: scored(fit, known.rows(rows), damping, rate), folds)

        choices = list(product(self.dampings, self.rates))
        held_out = [held_out_with(*choice) for choice in choices]
        best = int(np.argmax([auc_of(scores, members) for scores in held_out]))
        damping, rate = choices[best]
        scores = scored(np.arange(len(members)), unknown, damping, rate)
        note = f"inverse-hessian damping={damping:g} rate={rate:g}"
        return Scored(scores, best_threshold(held_out[best], members), (note,))

    def _scores(
        self, scans: Layer, inside: Layer, others: Layer, *, damping: float, rate: float
    ) -> FloatArray:
        curvature = gauss_newton(*others, damping=damping)
        scale = rate * float(np.linalg.eigvalsh(curvature)[-1])
        n = self.training_scans or len(inside.errors)
        terms = inverse_hessian_terms(scans.gradients, inside.gradients.mean(axis=0), curvature)
        return np.asarray(-(scans.errors**2) + scale * (terms[:, 0] / n + 2.0 * terms[:, 1]))

    def _layer(self, table: SignalTable) -> Layer:
        return Layer(output_gradients(self, table), finite_errors(self, table))


ATTACKS = (InverseHessian(),)
