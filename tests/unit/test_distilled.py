from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from privoxel.attacks import ATTACKS
from privoxel.attacks.attack_r import AttackR
from privoxel.attacks.base import Knowledge, ReferenceKind, fewest_references, reference_kind
from privoxel.attacks.difficulty import Difficulty
from privoxel.attacks.distilled import Distilled
from privoxel.errors import SignalError
from privoxel.signals.table import LazyArray
from tests.tables import leak, make_references, make_table

RNG = np.random.default_rng(0)
MINE = [attack for attack in ATTACKS.values() if isinstance(attack, Distilled)]


def a_case():
    table = make_table(members=29, non_members=37, gap=2.0, seed=2)
    split = leak(table, per_class=9)
    return split.target, Knowledge(split.leaked, make_references(table, models=5, inside=False))


@pytest.mark.parametrize("attack", MINE, ids=lambda attack: attack.name)
def test_scores_are_those_of_the_attack_on_the_students(attack):
    target, knowledge = a_case()
    found, expected = (one.score(target, knowledge, RNG) for one in (attack, attack.attack))
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.threshold == expected.threshold


def test_attack_d_counts_the_students_that_err_more():
    target, knowledge = a_case()
    models = knowledge.models
    rows = [models.scans.index(scan) for scan in target.scans]
    theirs = np.abs(np.stack([models.error(model=k) for k in range(5)])[:, rows])
    expected = [np.mean(theirs[:, x] > abs(r)) for x, r in enumerate(target.error())]
    np.testing.assert_allclose(Distilled(AttackR()).score(target, knowledge, RNG).scores, expected)


def test_a_student_that_shares_the_targets_errors_leaves_what_membership_adds():
    # Errors common to target and student hide a leak from |error|, and from a reference without them.
    table = make_table(members=300, non_members=310, seed=6)
    rng = np.random.default_rng(3)
    truth, common = table.is_member(), rng.normal(0, 4, len(table))
    error = np.where(truth, 0.5, 1.0) * common + rng.normal(0, 1, len(table))
    target = replace(
        table, snapshots=("last",), values={"prediction": LazyArray((table.age + error)[None, None])}
    )

    def auc(residuals):
        models = make_references(target, models=2, inside=False)
        models = replace(models, values={"prediction": LazyArray((table.age + residuals)[:, None])})
        scores = Distilled(Difficulty()).score(target, Knowledge(models=models), RNG).scores
        return roc_auc_score(truth, scores)

    student = auc(common + rng.normal(0, 1, (2, len(table))))
    assert student > roc_auc_score(truth, -np.abs(error)) + 0.03
    assert student > auc(rng.normal(0, 4, (2, len(table)))) + 0.05


def test_errors_name_the_attack_and_kinds_are_told_apart():
    target, knowledge = a_case()
    with pytest.raises(SignalError, match="Attack distilled-difficulty needs reference models"):
        Distilled(Difficulty()).score(target, replace(knowledge, models=None), RNG)
    assert {reference_kind(attack) for attack in MINE} == {ReferenceKind.DISTILLED}
    assert reference_kind(ATTACKS["difficulty"]) is ReferenceKind.SHADOW
    assert reference_kind(ATTACKS["abs-error"]) is None
    assert {attack.name: fewest_references(attack) for attack in MINE} == {
        "distilled-difficulty": (0, 1),
        "distilled-attack-r": (0, 1),
        "distilled-lira-offline": (0, 2),
        "distilled-rmia": (0, 1),
    }
