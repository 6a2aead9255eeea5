"""Quantile regression of the non-member error given the person, without reference models.

How small an error is unusual depends on whose it is. A regression learns, on non-members only, the
distribution of the score s = −√|error| given what is known of the person; a scan far above its own
distribution was probably trained on. Two heads (Bertran et al. 2023): mean and log-variance of a
Gaussian, giving (s − μ(x)) / σ(x), and the quantile of the pinball loss, giving s − q(x). The square root
makes |error| of a normal error nearly normal (Hawkins & Wixley 1986).

Weak attackers, boosted trees each taught on a random half of the non-members, take a majority vote (Tang et
al. 2023). The score is the median of their margins: it is above a threshold exactly where most of them are.
A Gaussian attacker learns its log-variance on the half that its mean did not see, by least squares on log
squared residuals, whose mean is log σ² − 1.27.

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
LOG_SQUARE = -(np.euler_gamma + np.log(2.0))
"""Mean of the log of a squared standard normal number, log χ²₁: −1.27."""


class Head(StrEnum):
    """What the regression gives of the non-members' score."""

    GAUSSIAN = "gaussian"
    PINBALL = "pinball"


@final
@dataclass(frozen=True)
class Judge:
    """A weak attacker: its centre (mean or quantile), and its log-variance for the Gaussian head."""

    centre: Any
    log_variance: Any = None

    def __call__(self, features: FloatArray, values: FloatArray) -> FloatArray:
        """Return how far ``values`` lie above the centre, in standard deviations for the Gaussian head."""
        above = values - self.centre.predict(features)
        if self.log_variance is None:
            return np.asarray(above)
        return np.asarray(above * np.exp(-0.5 * self.log_variance.predict(features)))


@final
@dataclass(frozen=True)
class Vote:
    """Weak attackers, an odd number, and what most of them say."""

    judges: tuple[Judge, ...]

    def __call__(self, features: FloatArray, values: FloatArray) -> FloatArray:
        """Return the median margin of the attackers: above a threshold exactly where most of them are."""
        return np.asarray(np.median([judge(features, values) for judge in self.judges], axis=0))


@dataclass(frozen=True)
class Learner:
    """Weak attackers, small boosted trees on halves of the scans; ``quantile``: of the pinball head."""

    attackers: int = 7
    trees: int = 12
    depth: int = 2
    quantile: float = 0.8

    def fit(self, features: FloatArray, values: FloatArray, seed: int, *, head: Head) -> Vote:
        """Return the attackers, who were taught the ``values`` of non-members given their ``features``."""
        rng = np.random.default_rng(seed)
        return Vote(tuple(self._judge(features, values, rng, head) for _ in range(self.attackers)))

    def _judge(self, features: FloatArray, values: FloatArray, rng: np.random.Generator, head: Head) -> Judge:
        taught, rest = halves(len(values), rng)
        centre = self._trees(features[taught], values[taught], rng, head)
        if head is Head.PINBALL:
            return Judge(centre)
        squares = (values[rest] - centre.predict(features[rest])) ** 2
        logs = np.log(np.maximum(squares, SMALLEST_VARIANCE)) - LOG_SQUARE
        return Judge(centre, self._trees(features[rest], logs, rng, head))

    def _trees(self, features: FloatArray, values: FloatArray, rng: np.random.Generator, head: Head) -> Any:
        from sklearn.ensemble import GradientBoostingRegressor  # noqa: PLC0415 - listing attacks stays quick

        trees = GradientBoostingRegressor(
            loss="quantile" if head is Head.PINBALL else "squared_error",
            alpha=self.quantile,
            n_estimators=self.trees,
            learning_rate=LEARNING_RATE,
            max_depth=self.depth,
            min_samples_leaf=max(min(10, len(values) // 2), 1),
            random_state=int(rng.integers(2**31)),
        )
        return trees.fit(features, values)


def halves(size: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Return two random halves of so many scans, none in both; of a single scan it twice."""
    order = rng.permutation(size)
    half = max(size // 2, 1)
    return order[:half], order[half:] if size > 1 else order


@final
@dataclass(frozen=True)
class QuantileAttack:
    """How far a scan's score lies above the non-members' distribution at its x, by ``head`` and majority.

    ``embedding`` names the activation whose first components stand in x for the image, in place of age.
    """

    name: str
    title: str
    threat_model: ThreatModel
    head: Head
    embedding: str = ""
    learner: Learner = Learner()

    needs_leaked = True
    source = (
        "Bertran et al. 2023, majority of attackers as in Tang et al. 2023 (sections not seen), on −√|error|"
    )

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
            vote = self.learner.fit(features[2], values[2], seed, head=self.head)
            held_out = vote(features[0], values[0])
            return Scored(vote(features[1], values[1]), best_threshold(held_out, members))

        def judged(fit: IntArray, rows: IntArray) -> FloatArray:
            outside = fit[~members[fit]]
            vote = self.learner.fit(features[0][outside], values[0][outside], seed, head=self.head)
            return vote(features[0][rows], values[0][rows])

        vote = self.learner.fit(features[0][~members], values[0][~members], seed, head=self.head)
        threshold = best_threshold(out_of_fold(judged, folds), members)
        return Scored(vote(features[1], values[1]), threshold)

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
QUANTILE_GAUSSIAN_ACTIVATION = QuantileAttack(
    "quantile-gaussian-activation",
    "Gaussian of non-members given conv 5",
    ThreatModel.WHITE_BOX,
    Head.GAUSSIAN,
    f"{ACTIVATION}conv5",
)

ATTACKS = (QUANTILE, QUANTILE_GAUSSIAN, QUANTILE_ACTIVATION, QUANTILE_GAUSSIAN_ACTIVATION)
