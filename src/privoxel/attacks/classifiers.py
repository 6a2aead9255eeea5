"""Small classifiers that a few dozen leaked scans can fit, by name: what a stack is made of.

``logistic``: ridge logistic regression. ``kernel``: RBF support vector machine (Cortes & Vapnik 1995).
``boosting``: shallow trees on random halves of the scans (Friedman 2002, stochastic gradient boosting).
``network``: the mean of small networks with one hidden layer and a strong weight penalty, fitted to
convergence from several starts, since a single one of them is unstable on 200 scans. All but ``boosting``
read the principal components of standardised features; trees need no scaling and read features as they are.
Scaling and components are part of what is fitted. Both classes count the same.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, final

import numpy as np

from privoxel.arrays import BoolArray, FloatArray
from privoxel.errors import ConfigError

STARTS = 5
HIDDEN = 8
NETWORK_PENALTY = 3.0
TREES = 50
LEARNING_RATE = 0.1
SPLIT_FEATURES = 8
SMALLEST_LEAF = 5
LONGEST = 200


@final
@dataclass(frozen=True)
class Settings:
    """Most principal components, inverse penalty of the logistic regression, and where randomness starts."""

    components: int = 8
    inverse_penalty: float = 0.1
    seed: int = 0


Decide = Callable[[FloatArray], FloatArray]
"""From features (scans × features) to decision values, higher = more likely a member."""

Fit = Callable[[FloatArray, BoolArray, Settings], Decide]


def decisions(
    kind: str, known: FloatArray, members: BoolArray, unknown: FloatArray, settings: Settings
) -> FloatArray:
    """Return the decision values on ``unknown`` of a ``kind`` fitted to ``known`` (scans × features).

    Raises:
        ConfigError: if there is no classifier called ``kind``.
    """
    check_kinds((kind,))
    return CLASSIFIERS[kind](known, members, settings)(unknown)


def check_kinds(kinds: tuple[str, ...]) -> None:
    """Raise ``ConfigError`` unless every one of ``kinds`` is registered, and there is one at least."""
    unknown = [kind for kind in kinds if kind not in CLASSIFIERS]
    if unknown or not kinds:
        raise ConfigError(
            f"A stack needs classifiers among {', '.join(sorted(CLASSIFIERS))}, got "
            f"{', '.join(map(repr, unknown)) or 'none'}. Name one of these."
        )


def _logistic(known: FloatArray, members: BoolArray, settings: Settings) -> Decide:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - listing attacks stays quick

    model = LogisticRegression(C=settings.inverse_penalty, class_weight="balanced", max_iter=1000)
    return _on_components(model, known, members, settings)


def _kernel(known: FloatArray, members: BoolArray, settings: Settings) -> Decide:
    from sklearn.svm import SVC  # noqa: PLC0415 - listing attacks stays quick

    return _on_components(SVC(class_weight="balanced"), known, members, settings)


def _boosting(known: FloatArray, members: BoolArray, settings: Settings) -> Decide:
    from sklearn.ensemble import GradientBoostingClassifier  # noqa: PLC0415 - listing attacks stays quick

    model = GradientBoostingClassifier(
        n_estimators=TREES,
        learning_rate=LEARNING_RATE,
        max_depth=2,
        subsample=0.5,
        max_features=min(SPLIT_FEATURES, known.shape[1]),
        min_samples_leaf=max(min(SMALLEST_LEAF, len(known) // 8), 1),
        random_state=settings.seed,
    )
    return _decision_of(model.fit(known, members, sample_weight=_equal_classes(members)))


def _network(known: FloatArray, members: BoolArray, settings: Settings) -> Decide:
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - listing attacks stays quick
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415

    scaled = _components(known, settings)
    models = [
        MLPClassifier(
            (HIDDEN,),
            activation="tanh",
            solver="lbfgs",
            alpha=NETWORK_PENALTY,
            max_iter=LONGEST,
            random_state=settings.seed + start,
        )
        for start in range(STARTS)
    ]
    inputs = scaled.transform(known)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a start that is nearly there counts as well
        for model in models:
            model.fit(inputs, members)

    def decide(unknown: FloatArray) -> FloatArray:
        features = scaled.transform(unknown)
        shares = np.stack([model.predict_proba(features)[:, 1] for model in models])
        within = np.clip(shares, 1e-9, 1.0 - 1e-9)
        return np.asarray((np.log(within) - np.log1p(-within)).mean(axis=0))

    return decide


def _on_components(model: Any, known: FloatArray, members: BoolArray, settings: Settings) -> Decide:
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415 - listing attacks stays quick

    scaled = _components(known, settings)
    model.fit(scaled.transform(known), members)
    return _decision_of(make_pipeline(scaled, model))


def _components(known: FloatArray, settings: Settings) -> Any:
    """Return the fitted map from features to standardised principal components."""
    from sklearn.decomposition import PCA  # noqa: PLC0415 - listing attacks stays quick
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    reduced = PCA(min(settings.components, *known.shape), svd_solver="full")
    return make_pipeline(StandardScaler(), reduced, StandardScaler()).fit(known)


def _decision_of(model: Any) -> Decide:
    return lambda unknown: np.asarray(model.decision_function(unknown), dtype=np.float64)


def _equal_classes(members: BoolArray) -> FloatArray:
    return np.where(members, 0.5 / members.mean(), 0.5 / (~members).mean())


CLASSIFIERS: Mapping[str, Fit] = MappingProxyType(
    {"logistic": _logistic, "kernel": _kernel, "boosting": _boosting, "network": _network}
)
"""Every classifier a stack may hold, by name."""
