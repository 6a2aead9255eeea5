from dataclasses import replace

import numpy as np
import pytest

from privoxel.cohort.splits import Design
from privoxel.config import ModelConfig, RunConfig, parse_config
from privoxel.evaluation.archive import TargetScores
from privoxel.evaluation.metrics import paired_auc_difference
from privoxel.evaluation.results import CohortSummary, Utility
from privoxel.evaluation.scored import Evaluated
from privoxel.evaluation.selection import best_over_targets
from privoxel.recipes import choosing
from privoxel.recipes.assemble import _other_scans, assemble_results
from privoxel.recipes.choosing import best_attacks, best_of
from privoxel.recipes.comparing import compared_attacks
from privoxel.recipes.concluding import _candidate, summarise, verdict_of
from privoxel.recipes.judging import COVARIATES_BEST, COVARIATES_ONLY, PSEUDO_MEMBERS, AttackFacts, Judged
from privoxel.recipes.target import TargetPlan

CONFIG = RunConfig()  # primary: abs-error


def judged(model, *, each, shift, members_mae=2.0, seed=0, has_null=True):
    """A target with ``each`` members and non-members whose scores differ by ``shift`` SD."""
    rng = np.random.default_rng(seed)
    members = np.arange(2 * each) < each
    people = np.arange(2 * each)

    def scored(by):
        scores = rng.standard_normal((1, 2 * each)) + by * members
        return Evaluated(scores, np.array([by / 2]), members, people)

    age = rng.uniform(45, 80, 2 * each)
    error = np.where(members, members_mae, 4.0) * rng.choice([-1, 1], 2 * each) + 0.1 * rng.standard_normal(
        2 * each
    )
    controls = {COVARIATES_ONLY: scored(0.0), COVARIATES_BEST: scored(0.0)} | (
        {PSEUDO_MEMBERS: scored(0.0)} if has_null else {}
    )
    scores = TargetScores(
        age, age + error, np.full(2 * each, np.nan), members, people, {"abs-error": scored(shift)}, controls
    )
    utility = Utility(members=members_mae, non_members=4.0, null=6.2, gap=4.0 - members_mae)
    plan = TargetPlan(model, ModelConfig(name=model), Design(("a",), ("b",)))
    facts = {name: AttackFacts((), 2, 0.0) for name in ("abs-error", *controls)}
    return Judged(plan, (), utility, scores, facts)


def test_a_leak_shown_outweighs_a_higher_but_uncertain_auc():
    uncertain = judged("cnn3d", each=8, shift=0.8, seed=1)
    leaking = judged("slice-mean", each=600, shift=0.3)
    alone = verdict_of([uncertain], CONFIG)
    assert alone.outcome == "inconclusive"
    both = verdict_of([uncertain, leaking], CONFIG)
    assert both.outcome == "leak shown"
    assert alone.auc.value > both.auc.value
    assert any("slice-mean" in reason for reason in both.reasons)


def test_no_leak_needs_every_model_to_say_so():
    harmless = judged("cnn3d", each=600, shift=0.0)
    assert verdict_of([harmless], CONFIG).outcome == "no leak above the limit"
    untrained = judged("slice-mean", each=600, shift=0.0, members_mae=6.1)
    assert verdict_of([harmless, untrained], CONFIG).outcome == "refused"


def test_the_interval_is_wider_with_several_models():
    one, other = (judged(name, each=200, shift=0.8) for name in ("cnn3d", "slice-mean"))
    assert verdict_of([one], CONFIG).auc.level == pytest.approx(0.95)
    assert verdict_of([one, other], CONFIG).auc.level == pytest.approx(0.975)


def test_a_missing_null_control_is_said():
    verdict = verdict_of([judged("cnn3d", each=100, shift=1.0, has_null=False)], CONFIG)
    assert any("pseudo-member" in reason for reason in verdict.reasons)


def test_summaries_average_over_the_targets_of_a_model():
    targets = [judged("cnn3d", each=50, shift=1.0, seed=s) for s in (1, 2, 3)]
    rows = {row.name: row for row in summarise(targets, CONFIG)}
    aucs = [summarise([target], CONFIG)[0].metrics["auc"].value for target in targets]
    assert rows["abs-error"].n_targets == 3
    assert rows["abs-error"].spread.sd == pytest.approx(np.std(aucs, ddof=1))
    assert rows["abs-error"].spread.trainings is not None  # all are of one design
    assert summarise(targets[:1], CONFIG)[0].spread is None
    assert rows["abs-error"].metrics["auc"].value == pytest.approx(np.mean(aucs))


def two_attacks(shift=0.3):
    """One target attacked twice, both black-box; the scores are made of the person's number alone."""
    one = judged("cnn3d", each=200, shift=shift)
    again = judged("cnn3d", each=200, shift=0.0, seed=1).scores.evaluated["abs-error"]
    scores = replace(one.scores, evaluated={**one.scores.evaluated, "population": again})
    return one._replace(scores=scores, facts=one.facts | {"population": one.facts["abs-error"]})


def test_the_best_attack_of_report_and_verdict_is_drawn_once(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        choosing, "best_over_targets", lambda *a, **k: drawn.append(1) or best_over_targets(*a, **k)
    )
    one = two_attacks()
    best = best_attacks([one], CONFIG)
    shared = verdict_of([one], CONFIG, best)
    assert len(drawn) == 1
    assert shared == verdict_of([one], CONFIG)
    assert len(drawn) == 2


def test_a_best_attack_at_another_level_or_of_other_attacks_is_not_taken_over():
    one = two_attacks()
    (best,) = best_attacks([one], CONFIG)
    assert best_of([one], best.names, CONFIG, known=[best]) is best
    wider = best_of([one], best.names, CONFIG, level=0.975, known=[best])
    assert wider.auc.high - wider.auc.low > best.auc.high - best.auc.low
    assert best_of([one], best.names[::-1], CONFIG, known=[best]) is not best


def test_the_number_of_threads_changes_no_estimate():
    cohort = CohortSummary.model_construct(name="made up")
    facts = {"created": "", "versions": {}, "machine": {}, "seconds": {}}
    judged_targets = [two_attacks(), judged("slice-mean", each=100, shift=0.2)]
    alone, together = (
        assemble_results(judged_targets, config=CONFIG, cohort=cohort, facts=facts, workers=workers)
        for workers in (1, 3)
    )
    assert alone == together
    assert [one.name for one in together.targets[0].attacks] == ["abs-error", "population"]
    assert [one.name for one in together.targets[0].controls] == [
        COVARIATES_ONLY,
        COVARIATES_BEST,
        PSEUDO_MEMBERS,
    ]


def test_every_other_attack_is_compared_with_the_error_on_the_same_people():
    one = two_attacks()
    (found,) = compared_attacks([[one]])
    scores = one.scores.evaluated
    expected = paired_auc_difference(scores["population"], scores["abs-error"])
    assert (found.name, found.baseline, found.model, found.n_targets) == (
        "population",
        "abs-error",
        "cnn3d",
        1,
    )
    assert (found.difference.value, found.difference.low) == (expected.value, expected.low)
    alone = replace(one.scores, evaluated={"population": scores["population"]})
    assert compared_attacks([[one._replace(scores=alone)]]) == []


def test_the_excess_of_the_best_attack_is_wider_than_that_of_one_named_beforehand():
    one = two_attacks()
    found = _candidate([one], 0.95, CONFIG, (), with_excess=True)
    single = paired_auc_difference(
        one.scores.evaluated[found.best.name], one.scores.controls[COVARIATES_BEST]
    )
    assert found.excess.value == single.value
    assert found.excess.high - found.excess.low > 1.03 * (single.high - single.low)
    assert _candidate([one], 0.95, CONFIG, (), with_excess=False).excess is None


def test_with_several_models_what_could_be_found_is_larger():
    one, other = (judged(name, each=200, shift=0.5) for name in ("cnn3d", "slice-mean"))
    narrow, wide = verdict_of([one], CONFIG), verdict_of([one, other], CONFIG)
    assert wide.minimal_detectable_auc > narrow.minimal_detectable_auc
    assert wide.auc.high - wide.auc.low > narrow.auc.high - narrow.auc.low


def test_the_results_hold_the_errors_with_intervals():
    cohort = CohortSummary.model_construct(name="made up")
    facts = {"created": "", "versions": {}, "machine": {}, "seconds": {}}
    (target,) = assemble_results([two_attacks()], config=CONFIG, cohort=cohort, facts=facts).targets
    assert set(target.errors) == {"members", "non_members", "gap"}
    assert target.errors["members"].value == pytest.approx(2.0, abs=0.1)
    assert target.errors["members"].low < target.errors["members"].value < target.errors["members"].high
    assert target.errors["gap"].value == pytest.approx(2.0, abs=0.1)


def test_attacks_on_other_scans_have_the_threat_model_of_their_own_rows():
    others = {"shadows": {"count": 2, "design": "population", "warm_start": "target"}}
    config = parse_config({"split": {"members": 0.4, "non_members": 0.4, "others": 0.2}, **others})
    one = judged("cnn3d", each=40, shift=1.0)
    attack = one.scores.evaluated["abs-error"]
    scores = replace(one.scores, evaluated={"rmia": attack}, other_scans={"rmia": attack})
    for held, expected in ((config, "white-box"), (CONFIG, "black-box")):
        rows = _other_scans(one._replace(scores=scores, missed={"base": "too few"}), held)
        assert [(row.name, row.threat_model) for row in rows] == [("rmia", expected), ("base", expected)]
        assert rows[1].share.reason == "too few"


def test_nothing_is_said_to_survive_where_covariates_tell_the_groups_apart():
    one = judged("cnn3d", each=40, shift=1.0)
    attack = one.scores.evaluated["abs-error"]
    scores = replace(one.scores, other_scans={"abs-error": attack})
    (alike,) = _other_scans(one._replace(scores=scores), CONFIG)
    assert alike.share.value == pytest.approx(1.0)
    unlike = replace(scores, controls={**scores.controls, COVARIATES_BEST: attack})
    (told,) = _other_scans(one._replace(scores=unlike), CONFIG)
    assert told.covariates.low > 0.5
    assert told.share.value is None
    assert "what survives may be that" in told.share.reason
    assert told.other_scan == alike.other_scan
