"""Audit a small model of simulated brains from Python, and read the result.

python examples/01_audit_simulated.py [FOLDER]
"""

import sys
from pathlib import Path

from privoxel import RunOptions, run_audit
from privoxel.config import parse_config

SETTINGS = {
    "seed": 1,
    "cohort": {"participants": 120, "resolution_mm": 6.0},
    "split": {"members": 50, "non_members": 50},
    "models": [{"name": "cnn3d", "width": 0.25, "head": "scaled", "dropout": 0.0}],
    "training": {"epochs": 60, "learning_rate": 1e-3, "snapshot_every": 60},
    "attacks": {"names": ["abs-error", "gradient-norm", "error-forest"], "primary": "abs-error"},
}


def main() -> None:
    """Run the audit and print the numbers a data custodian would ask for."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example-simulated")
    outcome = run_audit(parse_config(SETTINGS), folder, RunOptions(resume=folder.exists()))
    target = outcome.results.targets[0]
    print(f"MAE on members {target.utility.members:.1f}, on others {target.utility.non_members:.1f} years")
    for attack in target.attacks:
        auc = attack.metrics["auc"]
        print(f"{attack.title}: AUC {auc.value:.2f} (95 % {auc.low:.2f} to {auc.high:.2f})")
    print(outcome.results.verdict.sentence)
    print(f"Report: {outcome.report}")


if __name__ == "__main__":
    main()
