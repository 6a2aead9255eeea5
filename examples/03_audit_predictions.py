"""Audit a model of which only predictions are at hand: make a table, audit it, read the verdict.

python examples/03_audit_predictions.py [FOLDER]
"""

import csv
import sys
import tempfile
from pathlib import Path

import numpy as np

from privoxel.recipes.predictions import PredictionAudit, audit_predictions


def write_table(path: Path, rng: np.random.Generator, *, participants: int = 600) -> None:
    """Write predictions of a model that errs by 2.2 years on members and by 3.4 on others (SD)."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t")
        writer.writerow(("participant_id", "age", "sex", "site", "predicted_age", "member"))
        for number in range(participants):
            member = number % 2 == 0
            age = rng.uniform(45, 80)
            predicted = age + (2.2 if member else 3.4) * rng.standard_normal()
            writer.writerow(
                (
                    f"sub-{number:04d}",
                    f"{age:.1f}",
                    rng.choice(["F", "M"]),
                    rng.choice(["A", "B"]),
                    f"{predicted:.2f}",
                    int(member),
                )
            )


def main(folder: Path) -> None:
    """Print the verdict and where the report is."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "predictions.tsv"
    write_table(table, np.random.default_rng(0))
    outcome = audit_predictions(table, folder / "audit", PredictionAudit())
    print(outcome.results.verdict.sentence)
    for attack in outcome.results.targets[0].attacks:
        auc = attack.metrics["auc"]
        print(f"  {attack.title:32} AUC {auc.value:.2f} ({auc.low:.2f}-{auc.high:.2f})")
    print(f"Report: {outcome.report}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
