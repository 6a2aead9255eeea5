"""The audit on real scans, where there are some: set PRIVOXEL_REAL_COHORT to a BIDS folder of T1w scans.

The folder must be one in which ``privoxel cohort check`` finds nothing. Two pairs of names in IXI show one
person each, to all appearance (``benchmarks/RESULTS.md``): leave one of each pair out.
"""

import os
from pathlib import Path

import pytest

from privoxel.cohort.base import Grid
from privoxel.cohort.bids import load_cohort
from privoxel.cohort.checks import check_cohort
from privoxel.config import parse_config
from privoxel.recipes.audit import RunOptions, run_audit

COHORT = os.environ.get("PRIVOXEL_REAL_COHORT", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not COHORT, reason="PRIVOXEL_REAL_COHORT names no folder"),
]


def test_every_scan_of_the_cohort_is_sound():
    assert check_cohort(load_cohort(Path(COHORT), grid=Grid.mni(4.0))).is_sound


def test_a_model_of_real_brains_learns_leaks_and_its_controls_do_not(tmp_path):
    settings = {
        "seed": 5,
        "cohort": {"kind": "real", "resolution_mm": 6.0},
        "models": [{"name": "cnn3d", "width": 0.25, "head": "scaled", "dropout": 0.0}],
        "training": {"epochs": 30, "learning_rate": 1e-3, "snapshot_every": 30},
        "attacks": {"names": ["abs-error", "gradient-norm"]},
    }
    results = run_audit(parse_config(settings), tmp_path / "run", RunOptions(cohort=Path(COHORT))).results
    (target,) = results.targets
    assert target.utility.members < 0.6 * target.utility.null
    assert results.verdict.outcome == "leak shown"
    controls = {control.name: control.metrics["auc"] for control in target.controls}
    assert controls["null_pseudo_members"].low <= 0.5 <= controls["null_pseudo_members"].high
