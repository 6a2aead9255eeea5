"""SACRO-ML: the worst-case attack's classifiers, and LiRA in its three modes.

The worst-case attack splits its data by itself; here its own data preparation and classifier are fitted
on the leaked people, or on the references' own where nobody is leaked, and read on the judged ones. Its
features are what a user can give: prediction, age, error and its size. LiRA gets the confidence
exp(−r²/2s²) of the true age, whose logit it takes, or the signed residual.
"""

import logging
import tempfile
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sacroml.attacks.likelihood_attack import LIRAAttack
from sacroml.attacks.worst_case_attack import WorstCaseAttack

Given = Mapping[str, NDArray[np.float64]]
FOREST = "sklearn.ensemble.RandomForestClassifier"
LOGISTIC = "sklearn.linear_model.LogisticRegression"
logging.disable(logging.INFO)


def worst_case(model: str, known: str, given: Given) -> NDArray[np.float64]:
    """Return the probability of membership that its classifier of the ``known`` gives each judged person."""
    attack = WorstCaseAttack(
        output_dir=tempfile.gettempdir(), write_report=False, sort_probs=False, attack_model=model
    )
    inside = given[f"{known}_member"].astype(bool).ravel()
    features = _features(given[f"{known}_residual"].ravel(), given[f"{known}_age"].ravel())
    x, y = attack._prepare_attack_data(features[inside], features[~inside])
    np.random.seed(0)  # noqa: NPY002 - its forest draws from the global state
    classifier = attack._get_attack_model().fit(x, y)
    return np.asarray(classifier.predict_proba(_features(given["residual"], given["age"]))[:, 1])


def _features(residual: NDArray[np.float64], age: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([age + residual, age, np.abs(residual), residual])


def lira(mode: str, signal: str, fixed: bool, given: Given) -> NDArray[np.float64]:
    """Return the column of SACRO-ML's LiRA scores that grows with membership."""
    convert = _confidence if signal == "confidence" else _squashed
    models, inside = given["reference_residual"], None
    if mode == "online-carlini":
        models, inside = given["shadow_residual"], given["shadow_inside"].astype(bool)
    values = _logit(convert(models, given))
    people = range(values.shape[1])
    out = {i: list(values[:, i] if inside is None else values[~inside[:, i], i]) for i in people}
    within = {i: [] if inside is None else list(values[inside[:, i], i]) for i in people}
    attack = LIRAAttack(output_dir=tempfile.gettempdir(), write_report=False, mode=mode, fix_variance=fixed)
    labels = np.zeros(len(people), dtype=int)
    with np.errstate(all="ignore"):
        scores, _ = attack._compute_scores(labels, convert(given["residual"], given)[:, None], out, within)
    # the second column grows with membership in every mode: there −log p(OUT) or log p(IN) − log p(OUT)
    return np.nan_to_num(np.array(scores)[:, 1], posinf=1e9, neginf=-1e9)


def _confidence(residual: NDArray[np.float64], given: Given) -> NDArray[np.float64]:
    p = np.exp(-np.square(residual / given["scale"]) / 2.0)
    return np.clip(p, 1e-12, 1.0 - 1e-12)


def _squashed(residual: NDArray[np.float64], given: Given) -> NDArray[np.float64]:  # noqa: ARG001
    return 1.0 / (1.0 + np.exp(-residual))


def _logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(p / (1.0 - p))


ATTACKS: dict[str, Callable[[Given], NDArray[np.float64]]] = {
    "sacro:worst-case-rf": partial(worst_case, FOREST, "leaked"),
    "sacro:worst-case-lr": partial(worst_case, LOGISTIC, "leaked"),
    "sacro:references-rf": partial(worst_case, FOREST, "own"),
    "sacro:references-lr": partial(worst_case, LOGISTIC, "own"),
    "sacro:lira-offline": partial(lira, "offline", "confidence", False),
    "sacro:lira-offline-fixed": partial(lira, "offline", "confidence", True),
    "sacro:lira-offline-carlini-fixed": partial(lira, "offline-carlini", "confidence", True),
    "sacro:lira-online-fixed": partial(lira, "online-carlini", "confidence", True),
    "sacro:lira-online-residual-fixed": partial(lira, "online-carlini", "residual", True),
}
