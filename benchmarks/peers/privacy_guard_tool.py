"""PrivacyGuard: RMIA and LiRA on Gaussian likelihoods and signed residuals.

It takes data frames of members and of others, which it scores apart with the same formula; here the judged
people are one frame, given as both, and one of the two results is read. LiRA offline is as shipped.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from privacy_guard.analysis.mia.aggregate_analysis_input import AggregationType
from privacy_guard.attacks.lira_attack import LiraAttack
from privacy_guard.attacks.rmia_attack import RmiaAttack

Given = Mapping[str, NDArray[np.float64]]


def rmia(given: Given) -> NDArray[np.float64]:
    """Return its offline RMIA score with its default alpha = 0.3 and all references."""
    judged = _frame(given, "residual", "reference_residual")
    unseen = _frame(given, "unseen_residual", "reference_unseen_residual")
    attack = RmiaAttack(
        judged, judged, unseen, AggregationType.NONE, num_reference_models=len(given["reference_residual"])
    )
    return attack.run_attack().df_train_user["score"].to_numpy()


def _frame(given: Given, target: str, models: str) -> pd.DataFrame:
    def likelihood(residual: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp(-np.square(residual / given["scale"]) / 2.0)

    columns = {"user_id": np.arange(len(given[target])), "score_orig": likelihood(given[target])}
    for k, residual in enumerate(given[models]):
        columns[f"score_ref_{k}"] = likelihood(residual)
        columns[f"member_ref_{k}"] = np.zeros(len(residual), dtype=bool)
    return pd.DataFrame(columns)


def lira_online(given: Given) -> NDArray[np.float64]:
    """Return its online LiRA on the signed residual with a fixed variance of each kind (its "mix").

    The variance column is pooled within people, as privoxel's: the same algorithm on the same numbers.
    """
    inside = given["shadow_inside"].astype(bool)
    values = given["shadow_residual"]
    mean_in, sd_in = _moments(values, inside)
    mean_out, sd_out = _moments(values, ~inside)
    frame = pd.DataFrame(
        {
            "user_id": np.arange(values.shape[1]),
            "score_orig": given["residual"],
            "score_mean_in": mean_in,
            "score_std_in": sd_in,
            "score_mean_out": mean_out,
            "score_std_out": sd_out,
        }
    )
    attack = LiraAttack(
        frame.copy(),
        frame.copy(),
        AggregationType.NONE,
        use_fixed_variance=True,
        std_dev_type="mix",
        online_attack=True,
    )
    return attack.run_attack().df_train_user["score"].to_numpy()


def lira_offline(given: Given) -> NDArray[np.float64]:
    """Return its offline LiRA on the squared error, as shipped: the density under OUT, two-sided."""
    losses = np.square(given["reference_residual"])
    frame = pd.DataFrame(
        {
            "user_id": np.arange(losses.shape[1]),
            "score_orig": np.square(given["residual"]),
            "score_mean": losses.mean(axis=0),
            "score_std": losses.std(axis=0, ddof=1),
        }
    )
    attack = LiraAttack(frame.copy(), frame.copy(), AggregationType.NONE)
    return attack.run_attack().df_train_user["score"].to_numpy()


def _moments(values: NDArray[np.float64], mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    counts = mask.sum(axis=0)
    mean = np.where(mask, values, 0.0).sum(axis=0) / counts
    squares = np.square(np.where(mask, values - mean, 0.0)).sum()
    return mean, float(np.sqrt(squares / np.maximum(counts - 1, 0).sum()))


ATTACKS: dict[str, Callable[[Given], NDArray[np.float64]]] = {
    "privacy-guard:rmia": rmia,
    "privacy-guard:lira-online": lira_online,
    "privacy-guard:lira-offline": lira_offline,
}
