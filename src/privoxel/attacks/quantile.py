"""Quantile regression of the non-member error given the person, without reference models.

How small an error is unusual depends on whose it is. A regression learns, on non-members only, the
distribution of the score s = −√|error| given what is known of the person; a scan far above its own
distribution was probably trained on. Two heads (Bertran et al. 2023): mean and log-variance of a
Gaussian, giving (s − μ(x)) / σ(x), and the quantile of the pinball loss, giving s − q(x). The learners are
bagged weak trees (Tang et al. 2023). The square root makes |error| of a normal error nearly normal (Hawkins &
Wixley 1986).

x never holds age and the prediction (or an embedding, of which the prediction is a linear function)
together: their difference is the error, and a regression that sees both explains away what is to be
judged. So x is age, sex and site, or sex, site and the embedding. No scan is scored by a regression
that saw it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, final

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.attacks.base import Knowledge, Scored, ThreatModel, finite_errors, finite_signal, leaked_table
from privoxel.attacks.covariates import design_matrix
from privoxel.attacks.folds import leaked_folds, out_of_fold
from privoxel.attacks.standardise import fit_standardiser
from privoxel.attacks.thresholds import best_threshold
from privoxel.signals.table import ACTIVATION, PREDICTION, SignalTable

COMPONENTS = 5
LEARNING_RATE = 0.2
SMALLEST_VARIANCE = 1e-4


class Head(StrEnum):
    """What the regression gives of the non-members' score."""

    GAUSSIAN = "gaussian"
    PINBALL = "pinball"


@dataclass(frozen=True)
class Learner:
    """A bag of small boosted trees, each on half of the scans; ``quantile`` belongs to the pinball head."""

    bags: int = 8
    trees: int = 12
    depth: int = 2
    quantile: float = 0.8

    def fit(self, features: FloatArray, values: FloatArray, seed: int, *, head: Head) -> Any:
        """Return the bag fitted to the mean of ``values``, or to their quantile."""
        from sklearn.ensemble import (  # noqa: PLC0415 - listing attacks stays quick
            BaggingRegressor,
            GradientBoostingRegressor,
        )

        loss = "quantile" if head is Head.PINBALL else "squared_error"
        weak = GradientBoostingRegressor(
            loss=loss,
            alpha=self.quantile,
            n_estimators=self.trees,
            learning_rate=LEARNING_RATE,
            max_depth=self.depth,
            min_samples_leaf=max(min(10, len(values) // 4), 1),
        )
        half = max(len(values) // 2, 1)
        bag = BaggingRegressor(weak, n_estimators=self.bags, max_samples=half, random_state=seed)
        return bag.fit(features, values)


@final
@dataclass(frozen=True)
class QuantileAttack:
    """How far a scan's score lies above the non-members' distribution at its x, by ``head``.

    ``embedding`` names the activation whose first components stand in x for the image, in place of age.
    """

    name: str
    title: str
    threat_model: ThreatModel
    head: Head
    embedding: str = ""
    learner: Learner = Learner()

    needs_leaked = True
    source = "Bertran et al. 2023, bagged as Tang et al. 2023, on −√|error|"

    @property
    def requires(self) -> frozenset[str]:
        """Signals that target and leaked table must hold."""
        return frozenset({PREDICTION, *([self.embedding] if self.embedding else [])})

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return how far each scan lies above, and the best threshold on out-of-fold scores.

        The regression is fitted on ``knowledge.population``, or on the leaked non-members without one.

        Raises:
            SignalError: if a signal or leaked participants are missing, or a value is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        members, folds = leaked.is_member(), leaked_folds(leaked, rng)
        seed = int(rng.integers(2**31))
        others = knowledge.population
        reference = leaked if others is None else others
        tables = [leaked, target] if others is None else [leaked, target, others]
        features = self._features(reference, tables)
        values = [-np.sqrt(np.abs(finite_errors(self, table))) for table in tables]
        if others is not None:
            judge = self._fitted(features[2], values[2], seed)
            held_out = judge(features[0], values[0])
            return Scored(judge(features[1], values[1]), best_threshold(held_out, members))

        def judged(fit: IntArray, rows: IntArray) -> FloatArray:
            outside = fit[~members[fit]]
            return np.asarray(
                self._fitted(features[0][outside], values[0][outside], seed)(
                    features[0][rows], values[0][rows]
                )
            )

        judge = self._fitted(features[0][~members], values[0][~members], seed)
        threshold = best_threshold(out_of_fold(judged, folds), members)
        return Scored(judge(features[1], values[1]), threshold)

    def _features(self, reference: SignalTable, tables: list[SignalTable]) -> list[FloatArray]:
        people = design_matrix(reference.covariates, [table.covariates for table in tables])
        if not self.embedding:
            return [np.delete(rows, [1, 2], axis=1) for rows in people]  # trees need no powers of age
        pooled = [_pooled(finite_signal(self, table, self.embedding)) for table in tables]
        known = _pooled(finite_signal(self, reference, self.embedding))
        scaling = fit_standardiser(known)
        axes = _components(scaling.vectors(known).astype(np.float64))
        return [
            np.column_stack([rows[:, 3:], scaling.vectors(maps).astype(np.float64) @ axes])
            for rows, maps in zip(people, pooled, strict=True)
        ]

    def _fitted(self, features: FloatArray, values: FloatArray, seed: int) -> "Judge":
        centre = self.learner.fit(features, values, seed, head=self.head)
        if self.head is Head.PINBALL:
            return Judge(centre, None)
        held_out = _inner_predictions(self.learner, features, values, seed)
        logs = np.log(np.maximum((values - held_out) ** 2, SMALLEST_VARIANCE))
        return Judge(centre, self.learner.fit(features, logs, seed, head=Head.GAUSSIAN))


@final
@dataclass(frozen=True)
class Judge:
    """A fitted regression: its centre (mean or quantile), and its log-variance for the Gaussian head."""

    centre: Any
    log_variance: Any

    def __call__(self, features: FloatArray, values: FloatArray) -> FloatArray:
        """Return how far ``values`` lie above the centre, in standard deviations for the Gaussian head."""
        above = values - self.centre.predict(features)
        if self.log_variance is None:
            return np.asarray(above)
        return np.asarray(above * np.exp(-0.5 * self.log_variance.predict(features)))


def _inner_predictions(learner: Learner, features: FloatArray, values: FloatArray, seed: int) -> FloatArray:
    """Return predictions of each non-member by a bag without its half: residuals in sample are too small."""
    if len(values) < 4:
        return np.full(len(values), values.mean())
    halves = np.random.default_rng(seed).permutation(len(values)) % 2

    def predicted(fit: IntArray, rows: IntArray) -> FloatArray:
        bag = learner.fit(features[fit], values[fit], seed, head=Head.GAUSSIAN)
        return np.asarray(bag.predict(features[rows]))

    return out_of_fold(predicted, halves)


def _pooled(maps: Any) -> FloatArray:
    """Return the mean of each channel over space: scans × channels."""
    return np.asarray(maps.reshape(*maps.shape[:2], -1).mean(axis=2, dtype=np.float64))


def _components(rows: FloatArray) -> FloatArray:
    """Return the first principal axes, columns of features × at most 5, with a fixed sign."""
    axes = np.linalg.svd(rows, full_matrices=False)[2][:COMPONENTS].T
    signs = np.sign(axes[np.argmax(np.abs(axes), axis=0), np.arange(axes.shape[1])])
    return np.asarray(axes * np.where(signs == 0, 1.0, signs))


QUANTILE = QuantileAttack("quantile", "quantile of non-members", ThreatModel.BLACK_BOX, Head.PINBALL)
QUANTILE_GAUSSIAN = QuantileAttack(
    "quantile-gaussian", "Gaussian of non-members", ThreatModel.BLACK_BOX, Head.GAUSSIAN
)
QUANTILE_ACTIVATION = QuantileAttack(
    "quantile-activation",
    "quantile of non-members given conv 5",
    ThreatModel.WHITE_BOX,
    Head.PINBALL,
    f"{ACTIVATION}conv5",
)

ATTACKS = (QUANTILE, QUANTILE_GAUSSIAN, QUANTILE_ACTIVATION)
