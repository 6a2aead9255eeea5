from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from privoxel.attacks.base import Knowledge
from privoxel.attacks.centred import CENTRED_ERROR
from privoxel.attacks.default import BLACK_BOX, BLEND, DEFAULT, choose, simplest_within
from privoxel.attacks.threshold import ABS_ERROR
from tests.tables import leak, make_table, with_errors


def chosen(split, attack=BLACK_BOX, seed=0):
    result = attack.score(split.target.blinded(), Knowledge(leaked=split.leaked), np.random.default_rng(seed))
    return result.notes[0].removeprefix("choice=")


def test_the_best_row_is_taken_where_it_is_clearly_better():
    aucs = np.array([[0.60, 0.61, 0.59], [0.80, 0.82, 0.79], [0.81, 0.83, 0.80]])
    assert simplest_within(aucs, 1.0) == 2
    assert simplest_within(aucs[:2], 1.0) == 1


def test_a_simpler_row_is_taken_where_the_loss_is_within_its_standard_error():
    aucs = np.array([[0.70, 0.90, 0.70], [0.72, 0.80, 0.90], [0.5, 0.5, 0.5]])
    losses = aucs[1] - aucs[0]
    assert losses.mean() > 0
    assert losses.mean() < losses.std(ddof=1) / np.sqrt(3)
    assert simplest_within(aucs, 1.0) == 0


def test_a_loss_within_two_standard_errors_is_no_reason_for_a_richer_attack():
    aucs = np.array([[0.70, 0.72, 0.66], [0.72, 0.73, 0.72]])
    losses = aucs[1] - aucs[0]
    assert 1 < losses.mean() / (losses.std(ddof=1) / np.sqrt(3)) < 2
    assert simplest_within(aucs, 1.0) == 1
    assert simplest_within(aucs) == 0


def test_the_blend_is_chosen_where_nothing_beats_absolute_error():
    choices = [
        chosen(leak(make_table(members=200, non_members=201, gap=1.0, seed=s), per_class=80))
        for s in range(8)
    ]
    assert choices.count("blend") >= 6


def test_the_blend_follows_the_centre_where_the_model_is_off():
    table = make_table(members=200, non_members=201, gap=3.0, seed=2)
    split = leak(with_errors(table, table.error() + 4.0), per_class=100)
    truth, known = split.target.is_member(), Knowledge(leaked=split.leaked)
    aucs = {
        attack.name: roc_auc_score(truth, attack.score(split.target, known, np.random.default_rng(0)).scores)
        for attack in (BLEND, ABS_ERROR, CENTRED_ERROR)
    }
    assert aucs["blend"] > aucs["abs-error"] + 0.1
    assert aucs["blend"] > aucs["centred-error"] - 0.01


def test_the_blend_loses_little_where_absolute_error_is_right():
    losses = []
    for seed in range(6):
        table = make_table(members=200, non_members=201, gap=1.0, seed=seed)
        split = leak(with_errors(table, table.error() - 0.5), per_class=25, seed=seed)
        known = Knowledge(leaked=split.leaked)
        found = [a.score(split.target, known, np.random.default_rng(0)).scores for a in (ABS_ERROR, BLEND)]
        losses.append(np.subtract(*(roc_auc_score(split.target.is_member(), scores) for scores in found)))
    assert np.mean(losses) < 0.01


def test_the_scores_and_the_threshold_are_those_of_the_chosen_attack():
    split = leak(make_table(gap=0.0), per_class=30)
    only = replace(BLACK_BOX, candidates=(ABS_ERROR,))
    knowledge = Knowledge(leaked=split.leaked)
    found = only.score(split.target, knowledge, np.random.default_rng(0))
    plain = ABS_ERROR.score(split.target, knowledge, np.random.default_rng(0))
    np.testing.assert_array_equal(found.scores, plain.scores)
    assert found.threshold == plain.threshold


def test_the_choice_depends_on_the_leaked_scans_alone():
    split = leak(make_table(gap=2.0, seed=1), per_class=40)
    noise = with_errors(split.target, np.random.default_rng(3).normal(0, 9, len(split.target)))
    assert chosen(split) == chosen(split._replace(target=noise))


def test_every_candidate_is_judged_in_every_fold_on_scans_it_did_not_see():
    table = make_table(gap=3.0, members=60, non_members=60)
    result = choose([ABS_ERROR, CENTRED_ERROR], table, Knowledge(), np.random.default_rng(0))
    assert result.aucs.shape == (2, 5)
    assert np.isfinite(result.aucs).all()


@pytest.mark.parametrize("attack", [DEFAULT, BLACK_BOX])
def test_with_three_leaked_of_a_class_absolute_error_is_taken(attack):
    split = leak(make_table(gap=3.0), per_class=3)
    assert chosen(split, attack) == "abs-error"
    known = Knowledge(leaked=split.leaked)
    scores = [a.score(split.target, known, np.random.default_rng(0)).scores for a in (BLEND, ABS_ERROR)]
    np.testing.assert_array_equal(*scores)
