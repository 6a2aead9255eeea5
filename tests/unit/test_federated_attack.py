"""The malicious learner: one classifier over several rounds, averaged logits, and nothing else."""

import numpy as np
import pytest

from privoxel.attacks.base import Scored, ThreatModel
from privoxel.attacks.federated import (
    AGE_ONLY,
    COVARIATES_ONLY,
    FEATURE_SETS,
    age_alone,
    attack_as_learner,
    rounds_as_rows,
    split_in_two,
    without_model,
)
from privoxel.errors import SignalError
from privoxel.signals.table import GRADIENT_NORMS, PREDICTION, Membership
from tests.tables import leak, make_table

TABLE = make_table(members=21, non_members=27, gap=2.0, scans_each=2)


class Remembering:
    """An attack that scores by |error| and keeps what it was given."""

    name = "remembering"
    threat_model = ThreatModel.WHITE_BOX
    requires = frozenset({PREDICTION})

    def score(self, target, knowledge, rng):
        self.target, self.leaked = target, knowledge.leaked
        return Scored(-np.abs(target.error()), -1.5)


def shot(attack, snapshots, table=TABLE):
    parts = leak(table, per_class=8)
    return attack_as_learner(
        attack, parts.leaked, parts.target, snapshots=snapshots, rng=np.random.default_rng(0)
    )


def test_logits_of_the_rounds_are_averaged():
    found = shot(Remembering(), (0, 2))
    target = leak(TABLE, per_class=8).target
    by_hand = [-np.abs(target.error(snapshot=k)) for k in (0, 2)]
    np.testing.assert_allclose(found.by_round, by_hand)
    np.testing.assert_allclose(found.averaged, np.mean(by_hand, axis=0))
    assert found.threshold == -1.5


def test_one_classifier_learns_from_every_round_of_the_known_scans_alone():
    attack = Remembering()
    shot(attack, (0, 1, 2))
    leaked = leak(TABLE, per_class=8).leaked
    assert len(attack.leaked) == 3 * len(leaked)
    assert set(attack.leaked.covariates.participants) == set(leaked.covariates.participants)


def test_what_is_judged_carries_no_membership():
    attack = Remembering()
    shot(attack, (1, 2))
    assert (attack.target.membership == Membership.EXCLUDED).all()


def test_rows_of_all_rounds_hold_each_rounds_values():
    rows = rounds_as_rows(TABLE, (2, 0))
    assert len(rows) == 2 * len(TABLE)
    np.testing.assert_array_equal(rows.read(PREDICTION)[: len(TABLE)], TABLE.read(PREDICTION, snapshot=2))
    np.testing.assert_array_equal(
        rows.read(GRADIENT_NORMS)[len(TABLE) :], TABLE.read(GRADIENT_NORMS, snapshot=0)
    )
    np.testing.assert_array_equal(rows.age, np.tile(TABLE.age, 2))
    np.testing.assert_array_equal(rows.is_member(), np.tile(TABLE.is_member(), 2))


def test_the_copies_of_a_scan_stay_one_participants():
    rows = rounds_as_rows(TABLE, (0, 1, 2))
    codes = rows.covariates.participant_index.reshape(3, len(TABLE))
    assert (codes == codes[0]).all()


@pytest.mark.parametrize("attack", FEATURE_SETS, ids=lambda a: a.name)
def test_every_feature_set_finds_members_who_were_fitted_closely(attack):
    table = make_table(members=60, non_members=60, gap=4.0, seed=3)
    parts = leak(table, per_class=40)
    found = attack_as_learner(
        attack, parts.leaked, parts.target, snapshots=(2,), rng=np.random.default_rng(1)
    )
    inside = parts.target.is_member()
    assert np.median(found.averaged[inside]) > np.median(found.averaged[~inside])


def test_the_sets_grow_as_in_table_5():
    signals = [set(attack.signals) for attack in FEATURE_SETS]
    assert signals[0] < signals[1] < signals[2]
    assert {attack.threat_model for attack in FEATURE_SETS} == {ThreatModel.MALICIOUS_LEARNER}


def test_age_alone_sees_no_prediction_and_no_gradient():
    bare = without_model(TABLE)
    assert set(bare.values) == {PREDICTION}
    np.testing.assert_allclose(bare.read(PREDICTION), TABLE.age, rtol=1e-6)
    assert AGE_ONLY.threat_model is ThreatModel.NO_MODEL


def test_age_alone_finds_what_is_a_difference_in_age():
    table = make_table(members=60, non_members=60, seed=8)
    older = table.age + 12.0 * table.is_member()
    people = table.covariates
    shifted = without_model(
        type(table)(
            type(people)(people.scans, older, people.sex, people.site),
            table.models,
            table.snapshots,
            table.membership,
            {},
        )
    )
    parts = leak(age_alone(shifted), per_class=35)
    inside = parts.target.is_member()
    for control, least in ((AGE_ONLY, 0.55), (COVARIATES_ONLY, 0.6)):
        found = attack_as_learner(
            control, parts.leaked, parts.target, snapshots=(2,), rng=np.random.default_rng(2)
        )
        assert ((found.averaged > found.threshold) == inside).mean() > least


def test_sex_and_site_can_be_hidden():
    blank = age_alone(TABLE).covariates
    assert set(blank.sex) == set(blank.site) == {""}
    np.testing.assert_array_equal(blank.age, TABLE.age)


def test_a_scan_that_is_known_cannot_be_judged():
    parts = leak(TABLE, per_class=8)
    with pytest.raises(SignalError, match=r"did not learn from.*got 32 scans in both and 1 snapshots"):
        attack_as_learner(Remembering(), parts.leaked, TABLE, snapshots=(0,), rng=np.random.default_rng(0))


def test_halves_keep_participants_together():
    people = TABLE.covariates.participant_index
    rows = np.flatnonzero(~TABLE.is_member())
    first, second = split_in_two(rows, people, np.random.default_rng(5))
    assert sorted([*first, *second]) == rows.tolist()
    assert not set(people[first]) & set(people[second])
    assert abs(len(first) - len(second)) <= 2
