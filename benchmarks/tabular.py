"""What regressors of real regional volumes give away: audits of a tabular model over random splits.

python benchmarks/tabular.py VOLUMES.tsv PARTICIPANTS.tsv [SPLITS]

VOLUMES has one line a participant, PARTICIPANTS their ages and sexes. In each split a random half trains
every regressor, whose file is then audited as ``privoxel audit MODEL.skops --cohort TABLE`` does it. Means
over the splits have intervals over splits × participants. Only such means are printed.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
from sklearn.base import RegressorMixin, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import RidgeCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from privoxel.evaluation.archive import Archive, TargetScores
from privoxel.evaluation.combine import over_targets
from privoxel.recipes.brought_settings import BroughtAudit
from privoxel.recipes.doors import audit_given
from privoxel.recipes.given import Given
from privoxel.recipes.judging import COVARIATES_ONLY

ATTACKS = ("abs-error", "default-black-box")
SEED = 0


def regressors() -> dict[str, RegressorMixin]:
    """Return the regressors, unfitted, as one would choose them without a thought of attacks."""
    penalties = np.logspace(-2, 4, 13)
    return {
        "ridge, penalty by cross-validation": make_pipeline(StandardScaler(), RidgeCV(penalties)),
        "20 components, linear": make_pipeline(StandardScaler(), PCA(20), RidgeCV(penalties)),
        "random forest, leaves of 5": RandomForestRegressor(200, min_samples_leaf=5, random_state=SEED),
        "random forest": RandomForestRegressor(200, random_state=SEED),
        "gradient boosting": GradientBoostingRegressor(random_state=SEED),
        "two-layer network": make_pipeline(
            StandardScaler(), MLPRegressor(hidden_layer_sizes=(64, 32), max_iter=500, random_state=SEED)
        ),
    }


def joined(volumes: Path, participants: Path) -> pd.DataFrame:
    """Return the volumes with age and sex, a line a participant."""
    people = pd.read_csv(participants, sep="\t", usecols=["participant_id", "age", "sex"])
    return people.merge(pd.read_csv(volumes, sep="\t"), on="participant_id", validate="one_to_one")


def audited(
    table: pd.DataFrame, regressor: RegressorMixin, members: np.ndarray, folder: Path
) -> TargetScores:
    """Return the scores of every attack on ``regressor``, trained on ``members``."""
    folder.mkdir(parents=True)
    features = [name for name in table.columns if name not in {"participant_id", "age", "sex"}]
    fitted = clone(regressor).fit(table.loc[members, features], table.loc[members, "age"])
    skops.io.dump(fitted, folder / "model.skops")
    told = pd.concat([table, pd.Series(members.astype(int), name="member")], axis=1)
    told.to_csv(folder / "table.tsv", sep="\t", index=False)
    given = Given(str(folder / "model.skops"), cohort=folder / "table.tsv")
    audit_given(given, folder / "audit", BroughtAudit(attacks=ATTACKS, primary="default-black-box"))
    (scores,) = Archive.load(folder / "audit" / "scores.npz").targets.values()
    return scores


def mae(one: TargetScores, *, of_members: bool) -> float:
    """Return the mean absolute error on one of the groups, years."""
    return float(np.abs(one.prediction - one.age)[one.members == of_members].mean())


def line(name: str, found: list[TargetScores]) -> str:
    """Return the table's line of one regressor."""

    def mean(evaluated: list[Mapping], attack: str) -> str:
        estimate = over_targets([one[attack] for one in evaluated], "auc", rng=np.random.default_rng(SEED))
        return f"{estimate.value:.3f} ({estimate.low:.3f}-{estimate.high:.3f})"

    errors = " / ".join(
        f"{np.mean([mae(one, of_members=group) for one in found]):.1f}" for group in (True, False)
    )
    cells = [mean([one.evaluated for one in found], attack) for attack in ATTACKS]
    control = mean([one.controls for one in found], COVARIATES_ONLY)
    return f"| {name} | {errors} | {' | '.join(cells)} | {control} |"


def main(volumes: Path, participants: Path, splits: int) -> None:
    """Print one line a regressor."""
    table = joined(volumes, participants)
    rng = np.random.default_rng(SEED)
    halves = [rng.permutation(len(table)) < len(table) // 2 for _ in range(splits)]
    print(f"{len(table)} participants, {table.shape[1] - 3} volumes, {splits} splits into halves\n")
    print("| regressor | MAE of members / others, years | |error| | default | age and sex alone |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        for name, regressor in regressors().items():
            found = [
                audited(table, regressor, members, Path(place) / f"{name}-{k}")
                for k, members in enumerate(halves)
            ]
            print(line(name, found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 10)
