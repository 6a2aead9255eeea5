"""Gradient likelihood ratio (GLiR): is a mean gradient of training what it would be without this scan?

Whoever sees the mean gradient m of n scans (a step of SGD, a learner's update) can test the hypothesis that
scan x is not among them. With background gradients of mean μ and covariance Σ, m is then normal with mean
μ and covariance Σ/n, and (Leemann, Pawelczyk & Kasneci 2023; form of the authors' code)

    K = (n − 1) (m − g)ᵀ Σ⁻¹ (m − g)  ~  χ'²(d, n (g − μ)ᵀ Σ⁻¹ (g − μ))

with g the scan's own gradient at the same weights and d the number of dimensions. A member pulls m towards
g, so K is small: score = −Σ over steps of log P(χ'² ≤ K). The distribution function is Sankaran's (1963)
normal approximation, whose logarithm does not underflow; the authors cut theirs at −200.

Gradients are random projections (``projection:``), folded to ``dimensions`` numbers, since Σ must be
estimated from fewer scans than a network has weights; Ledoit & Wolf's (2004) shrinkage keeps it well
conditioned. Background: a population, or leaked non-members, for leaked scans those of other folds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from privoxel.arrays import FloatArray, IntArray
from privoxel.attacks.base import Course, Knowledge, Scored, ThreatModel, finite_signal, leaked_table
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.thresholds import best_threshold
from privoxel.errors import SignalError
from privoxel.signals.table import PROJECTION, STEP, SignalTable


class Background(NamedTuple):
    """Mean and inverse square root of the covariance of gradients of scans that trained nothing."""

    mean: FloatArray
    whiten: FloatArray


def fit_background(gradients: FloatArray) -> Background:
    """Return the background of some gradients (scans × dimensions), its covariance shrunk."""
    from sklearn.covariance import ledoit_wolf  # noqa: PLC0415 - listing attacks stays quick

    covariance, _ = ledoit_wolf(gradients)
    lengths, axes = np.linalg.eigh(covariance)
    floor = np.maximum(lengths, 1e-12 * max(float(lengths[-1]), np.finfo(np.float64).tiny))
    return Background(gradients.mean(axis=0), np.asarray(axes / np.sqrt(floor)))


def step_log_p(
    gradients: FloatArray, mean_gradient: FloatArray, background: Background, scans: int
) -> FloatArray:
    """Return log P(χ'² ≤ K) of each scan in one step; lower = more likely among the step's ``scans``."""
    apart = (mean_gradient - gradients) @ background.whiten
    own = (gradients - background.mean) @ background.whiten
    return log_noncentral_chi_square_cdf(
        (scans - 1) * (apart**2).sum(axis=1), gradients.shape[1], scans * (own**2).sum(axis=1)
    )


def log_noncentral_chi_square_cdf(values: FloatArray, freedom: int, noncentrality: FloatArray) -> FloatArray:
    """Return log P(χ'² ≤ value) by a normal approximation of Sankaran 1963.

    With 16 degrees of freedom or more it is off by less than 0.02 down to P = 0.02, by 4 % at P = 10⁻⁴.

    >>> log_noncentral_chi_square_cdf(np.array([6.0]), 4, np.array([2.0])).round(2).tolist()
    [-0.54]
    """
    total, spread = freedom + noncentrality, freedom + 2.0 * noncentrality
    h = 1.0 - 2.0 * total * (freedom + 3.0 * noncentrality) / (3.0 * spread**2)
    p, m = spread / total**2, (h - 1.0) * (1.0 - 3.0 * h)
    centre = 1.0 + h * p * (h - 1.0 - 0.5 * (2.0 - h) * m * p)
    z = ((values / total) ** h - centre) / (h * np.sqrt(2.0 * p) * (1.0 + 0.5 * m * p))
    return np.asarray(log_ndtr(z))


@final
@dataclass(frozen=True)
class GradientLikelihoodRatio:
    """GLiR on ``projection:512`` and ``step:512``; each snapshot of the table is one step.

    ``scans`` is the number of scans behind each mean gradient; the adversary who sees a learner's updates
    usually knows it, and otherwise takes that of the leaked members, a lower bound.
    """

    dimensions: int = 64
    scans: int | None = None
    size: int = 512

    name = "glir"
    title = "gradient likelihood ratio"
    course = Course.INTERVALS
    threat_model = ThreatModel.WHITE_BOX
    needs_leaked = True
    source = "GLiR, Leemann et al. 2023 (form of the authors' code, section not seen), random projections"

    @property
    def requires(self) -> frozenset[str]:
        """Signals that target and leaked table must hold."""
        return frozenset({f"{PROJECTION}{self.size}", f"{STEP}{self.size}"})

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return −log p summed over steps, and the best threshold on out-of-fold scores.

        Raises:
            SignalError: if a signal or leaked participants are missing, or a value is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        members, folds = leaked.is_member(), leaked_folds(leaked, rng)
        scans = self.scans or max(int(members.sum()), 2)
        steps = range(len(leaked.snapshots))
        if len(target.snapshots) != len(steps):
            raise SignalError(
                f"Attack {self.name} needs the same steps of leaked and evaluated scans, got {len(steps)} "
                f"and {len(target.snapshots)}. Extract both together."
            )
        held_out, scores = np.zeros(len(leaked)), np.zeros(len(target))
        for step in steps:
            known, unknown = (self._projected(table, step) for table in (leaked, target))
            mean, _ = self._mean(leaked, step), self._mean(target, step)
            others = knowledge.population
            outside = None if others is None else self._projected(others, step)

            def scored(
                fit: IntArray,
                gradients: FloatArray,
                known: FloatArray = known,
                mean: FloatArray = mean,
                outside: FloatArray | None = outside,
            ) -> FloatArray:
                background = fit_background(known[fit[~members[fit]]] if outside is None else outside)
                return -step_log_p(gradients, mean, background, scans)

            def held(
                fit: IntArray,
                rows: IntArray,
                scored: Callable[..., FloatArray] = scored,
                known: FloatArray = known,
            ) -> FloatArray:
                return scored(fit, known[rows])

            held_out += out_of_fold(held, folds)
            scores += scored(np.arange(len(leaked)), unknown)
        return Scored(scores, best_threshold(held_out, members), (f"glir steps={len(steps)} scans={scans}",))

    def _projected(self, table: SignalTable, step: int) -> FloatArray:
        finite_signal(self, table, f"{PROJECTION}{self.size}")
        return folded(table.read(f"{PROJECTION}{self.size}", snapshot=step), self.dimensions)

    def _mean(self, table: SignalTable, step: int) -> FloatArray:
        """Return the step's mean gradient, which the table repeats for every scan."""
        finite_signal(self, table, f"{STEP}{self.size}")
        return folded(table.read(f"{STEP}{self.size}", snapshot=step)[:1], self.dimensions)[0]


def folded(projections: npt.ArrayLike, dimensions: int) -> FloatArray:
    """Return ``projections`` (scans × numbers) summed to ``dimensions``: again sums of random signs.

    >>> folded(np.arange(6.0)[None], 2).tolist()
    [[6.0, 9.0]]
    """
    values = np.asarray(projections, dtype=np.float64)
    missing = -values.shape[1] % dimensions
    padded = np.pad(values, ((0, 0), (0, missing)))
    return np.asarray(padded.reshape(len(values), -1, dimensions).sum(axis=1))


ATTACKS = (GradientLikelihoodRatio(),)
