"""Audit a scikit-learn regressor of regional volumes: made-up people, a forest that learnt half of them.

python examples/06_audit_a_tabular_model.py [FOLDER]

The same from the shell:
privoxel audit FOLDER/forest.skops --cohort FOLDER/volumes.tsv
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
from sklearn.ensemble import RandomForestRegressor

from privoxel.recipes.brought_settings import BroughtAudit
from privoxel.recipes.doors import audit_given
from privoxel.recipes.given import Given

REGIONS = 40


def make_table(rng: np.random.Generator, *, people: int = 400) -> pd.DataFrame:
    """Return regional volumes (ml) that shrink with age at rates of their own, and who is a member."""
    age = rng.uniform(45, 80, people)
    rates = rng.uniform(0.0, 0.08, REGIONS)
    volumes = 20.0 - rates * (age[:, None] - 60.0) + rng.normal(0, 1.0, (people, REGIONS))
    table = pd.DataFrame(volumes.round(3), columns=[f"region_{k:02d}" for k in range(REGIONS)])
    table.insert(0, "participant_id", [f"sub-{k:04d}" for k in range(people)])
    table.insert(1, "age", age.round(1))
    table.insert(2, "sex", rng.choice(["F", "M"], people))
    table.insert(3, "member", np.arange(people) % 2)
    return table


def main(folder: Path) -> None:
    """Print the verdict and where the report is."""
    folder.mkdir(parents=True, exist_ok=True)
    table = make_table(np.random.default_rng(0))
    table.to_csv(folder / "volumes.tsv", sep="\t", index=False)
    members = table[table["member"] == 1]
    regions = [name for name in table.columns if name.startswith("region_")]
    forest = RandomForestRegressor(100, random_state=0).fit(members[regions], members["age"])
    skops.io.dump(forest, folder / "forest.skops")
    given = Given(str(folder / "forest.skops"), cohort=folder / "volumes.tsv")
    outcome = audit_given(given, folder / "audit", BroughtAudit())
    print(outcome.results.verdict.sentence)
    for attack in outcome.results.targets[0].attacks:
        auc = attack.metrics["auc"]
        print(f"  {attack.title:32} AUC {auc.value:.2f} ({auc.low:.2f}-{auc.high:.2f})")
    print(f"Report: {outcome.report}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
