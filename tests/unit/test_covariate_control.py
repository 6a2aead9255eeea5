from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from privoxel.attacks import CONTROLS
from privoxel.attacks.covariates import design_matrix
from privoxel.errors import SignalError
from privoxel.evaluation.draws import audit_draws
from privoxel.evaluation.metrics import auc, paired_auc_difference
from privoxel.progress import Silent
from privoxel.recipes import covariate_control
from privoxel.recipes.attacking import Crew, run_attacks
from privoxel.recipes.covariate_control import best_of_covariates
from privoxel.seeding import Streams
from privoxel.signals.table import Membership
from tests.tables import make_table


def audited(table, *, seed=0, cap=30):
    people = {scan.participant: code for code, scan in enumerate(table.scans)}
    codes = table.covariates.participant_index
    draws = audit_draws(table.membership[0], codes, cap=cap, rng=np.random.default_rng(seed))
    return draws, Crew(Streams(seed), people, 1, Silent())


def aged(table, years):
    """Return ``table`` with members so many years older."""
    older = np.where(table.is_member(), years, 0.0)
    return replace(table, covariates=replace(table.covariates, age=table.age + older))


def test_everyone_whom_a_draw_evaluates_is_scored_by_one_who_knows_other_people():
    table = aged(make_table(scans_each=2), 6.0)
    draws, crew = audited(table)
    found = best_of_covariates(table, draws, crew)
    for row, draw in zip(found.evaluated.scores, draws, strict=True):
        np.testing.assert_array_equal(np.isfinite(row), draw.evaluated)
    assert 0.85 * 114 < found.n_leaked < 114
    assert 0.5 < auc(found.evaluated).value < 1.0


def test_nobody_is_judged_by_what_is_known_of_them():
    table = make_table(seed=4)
    own = np.array([scan.participant for scan in table.scans])
    table = replace(table, covariates=replace(table.covariates, site=own, age=np.full(len(table), 60.0)))
    known, everyone = design_matrix(table.covariates, [table.covariates] * 2)
    told = LogisticRegression().fit(known, table.is_member()).decision_function(everyone)
    assert roc_auc_score(table.is_member(), told) == 1.0
    assert auc(best_of_covariates(table, *audited(table)).evaluated).value < 0.6


@pytest.mark.parametrize("years", [-5.0, 0.0, 5.0])
def test_age_itself_is_the_least_it_reaches(years):
    table = aged(make_table(seed=7), years)
    draws, crew = audited(table)
    found = best_of_covariates(table, draws, crew).evaluated
    by_age = np.where(np.isnan(found.scores), np.nan, table.age)
    area = auc(replace(found, scores=by_age)).value
    assert auc(found).value >= max(area, 1.0 - area) - 1e-12


def test_a_difference_that_is_not_one_of_older_and_younger_is_found():
    table = make_table(members=90, non_members=110, seed=3)
    middle = np.random.default_rng(0).normal(60.0, np.where(table.is_member(), 3.0, 12.0))
    table = replace(table, covariates=replace(table.covariates, age=middle))
    assert auc(best_of_covariates(table, *audited(table)).evaluated).value > 0.75


def test_it_ranks_as_well_as_age_can_where_only_age_differs_and_better_than_one_told_of_few():
    tables = [aged(make_table(members=120, non_members=190, seed=seed), 5.0) for seed in range(8)]
    informed, told, best = [], [], []
    for seed, table in enumerate(tables):
        draws, crew = audited(table, seed=seed, cap=15)
        informed.append(auc(best_of_covariates(table, draws, crew).evaluated).value)
        (few,) = run_attacks([CONTROLS["covariates-only"]], table, draws, crew=crew).values()
        told.append(auc(few.evaluated).value)
        best.append(roc_auc_score(table.is_member(), table.age))
    assert np.mean(informed) > np.mean(told) + 0.01
    assert np.mean(informed) == pytest.approx(np.mean(best), abs=0.03)


def test_it_knows_no_more_people_than_it_needs(monkeypatch):
    table = make_table()
    draws, crew = audited(table)
    monkeypatch.setattr(covariate_control, "KNOWN", 7)
    assert best_of_covariates(table, draws, crew).n_leaked == 14


def test_who_is_excluded_teaches_nothing():
    table = make_table(seed=2)
    states = table.membership.copy()
    states[0, :20] = Membership.EXCLUDED
    table = replace(table, membership=states)
    moved = table.covariates.age.copy()
    moved[:20] += 30.0
    other = replace(table, covariates=replace(table.covariates, age=moved))
    found = [best_of_covariates(one, *audited(one)).evaluated.scores for one in (table, other)]
    np.testing.assert_array_equal(found[0], found[1])


def test_two_people_of_a_class_are_too_few():
    table = make_table(members=2, non_members=30)
    draws, crew = audited(make_table(members=20, non_members=30))
    with pytest.raises(SignalError, match="at least 2 leaked members"):
        best_of_covariates(table, [draw._replace(evaluated=draw.evaluated[:32]) for draw in draws], crew)


def test_an_attack_that_reads_age_alone_has_nothing_over_it():
    alarms, formerly = [], []
    for seed in range(40):
        table = aged(make_table(members=90, non_members=130, seed=seed), 5.0)
        draws, crew = audited(table, seed=seed, cap=20)
        best = best_of_covariates(table, draws, crew).evaluated
        (few,) = run_attacks([CONTROLS["covariates-only"]], table, draws, crew=crew).values()
        reader = replace(best, scores=np.where(np.isnan(best.scores), np.nan, table.age))
        for found, control in ((alarms, best), (formerly, few.evaluated)):
            found.append(paired_auc_difference(reader, control, level=0.9).low > 0.0)
    assert np.mean(alarms) <= 0.1
    assert np.mean(formerly) > 0.2  # what a control that was told of as few people would let pass
