"""Attacks are called better than guessing on targets that never saw the "members" in at most 5 % of them.

A smaller form of ``benchmarks/null_calibration.py``, whose table is in ``benchmarks/RESULTS.md``.
The whole table passes at a Bonferroni limit: no cell's exact lower limit may lie above 5 %.
"""

from collections import defaultdict

import numpy as np
import pytest

from privoxel.attacks import get_attack
from tests.null_calibration import BEST, EXCESS, MATCHED, Alarm, all_alarms, lower_limit, scores_of
from tests.null_targets import NullTarget, Setting, null_targets

pytestmark = pytest.mark.slow

TARGETS = 150
ATTACKS = (
    "abs-error",
    "gradient-norm",
    "centred-error",
    "centred-curve",
    "prediction-label",
    "prediction-label-svm",
    "population",
    "population-age",
    "self-influence",
    "difficulty",
    "attack-r",
    "lira-online",
    "lira-offline",
    "rmia",
    "base",
    "reference-tube",
    "stability",
)
"""Quick attacks of every kind, and the one that excelled the covariates by luck (``docs/design.md``)."""


def alarms_at(shift: float, first_seed: int) -> dict[tuple[str, str], list[Alarm]]:
    seeds = range(first_seed, first_seed + TARGETS)
    attacks = [get_attack(name) for name in ATTACKS]
    cells = defaultdict(list)
    for seed, target in zip(seeds, null_targets(Setting(shift=shift), seeds), strict=True):
        assert_learned_but_nobody_judged(target)
        found = all_alarms(target, scores_of(target, attacks, seed), seed, shifted=bool(shift))
        for name, metrics in found.items():
            for metric, alarm in metrics.items():
                cells[name, metric].append(alarm)
    return cells


def assert_learned_but_nobody_judged(target: NullTarget) -> None:
    """The target predicts age, and better for those that trained it than for anyone judged."""
    trained, judged = target.mae
    assert trained < judged < 7.0


def assert_within_the_limit(cells: dict[tuple[str, str], list[Alarm]]) -> None:
    for cell, tests in cells.items():
        raised = sum(alarm.raised for alarm in tests)
        assert lower_limit(raised, len(tests), len(cells)) <= 0.05, (cell, raised, len(tests))


def test_without_a_shift_every_attack_and_metric_and_the_best_of_many_keep_to_five_percent():
    cells = alarms_at(0.0, 5000)
    assert {metric for _, metric in cells} >= {
        "auc",
        "balanced_accuracy",
        "tpr_at_fpr_0.01",
        "tpr_at_fpr_0.05",
    }
    assert_within_the_limit(cells)


def test_members_five_years_older_are_found_by_raw_attacks_and_not_beyond_the_control_nor_by_the_best():
    cells = alarms_at(5.0, 6000)
    raw = [alarm.raised for alarm in cells["covariates-only", "auc"]]
    assert np.mean(raw) > 0.9
    controlled = {
        cell: tests for cell, tests in cells.items() if cell[1] == EXCESS or cell[1].startswith(MATCHED)
    }
    assert len(controlled) >= 4 * len(ATTACKS)
    assert len(controlled[BEST, EXCESS]) == TARGETS
    assert_within_the_limit(controlled)
