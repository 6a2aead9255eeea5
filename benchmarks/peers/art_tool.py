"""Adversarial Robustness Toolbox: its only attack that accepts regressors, MembershipInferenceBlackBox.

Its features are the squared error and the age. Each of its classifiers is run with its documented defaults
on the leaked people, or, where nobody is leaked, on the references' own people. Known defects that stay in
the numbers: the network casts ages to integers and does not scale them. Predictions are looked up by
position, so that no volume is needed.
"""

import warnings
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from art.attacks.inference.membership_inference import MembershipInferenceBlackBox
from art.estimators.regression import BlackBoxRegressor
from numpy.typing import NDArray

Given = Mapping[str, NDArray[np.float64]]
MODELS = ("rf", "gb", "nn", "lr", "svm", "knn", "dt")


def black_box(model: str, known: str, given: Given) -> NDArray[np.float64]:
    """Return ART's probability of membership of each judged person, learned from the ``known`` ones."""
    ages = np.concatenate([given[f"{known}_age"], given["age"]], axis=None)
    predicted = ages + np.concatenate([given[f"{known}_residual"], given["residual"]], axis=None)
    target = BlackBoxRegressor(
        lambda rows: predicted[rows[:, 0].astype(int)],
        input_shape=(1,),
        loss_fn=lambda true, said: np.square(np.ravel(true) - np.ravel(said)),
    )
    inside = given[f"{known}_member"].astype(bool).ravel()
    rows = np.arange(len(inside))
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - its classifiers draw from the global state
    attack = MembershipInferenceBlackBox(target, input_type="loss", attack_model_type=model)
    members, others = rows[inside], rows[~inside]
    judged = np.arange(len(inside), len(ages))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attack.fit(_column(members), ages[members], _column(others), ages[others])
        return np.ravel(attack.infer(_column(judged), ages[judged], probabilities=True))


def _column(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return rows[:, None].astype(np.float64)


ATTACKS: dict[str, Callable[[Given], NDArray[np.float64]]] = {
    **{f"art:{model}": partial(black_box, model, "leaked") for model in MODELS},
    **{f"art:references-{model}": partial(black_box, model, "own") for model in MODELS},
}
