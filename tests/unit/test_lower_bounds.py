"""Bounds on the ε of every training: which are given, at which level, and what is said of them."""

from dataclasses import replace

import numpy as np
import pytest

from privoxel.cohort.splits import Design
from privoxel.config import ModelConfig, RunConfig, parse_config
from privoxel.evaluation.archive import TargetScores
from privoxel.evaluation.epsilon import HeldOutThreshold, OneRun, canaries_of
from privoxel.evaluation.results import Utility
from privoxel.evaluation.scored import Evaluated
from privoxel.recipes.judging import COVARIATES_BEST, Judged
from privoxel.recipes.lower_bounds import privacy_losses
from privoxel.recipes.target import TargetPlan
from privoxel.seeding import Streams
from tests.scores import one_repeat

PRIVATE = {"privacy": {"epsilon": 2.0, "delta": 1e-4}}


def leaking(shift: float, size: int = 120, seed: int = 0) -> Evaluated:
    rng = np.random.default_rng(seed)
    return one_repeat(rng.normal(size=size) + shift, rng.normal(size=size), threshold=shift / 2)


def judged(
    evaluated: Evaluated, canaries: Evaluated | None = None, defence: dict[str, str] | None = None
) -> Judged:
    none = np.zeros(0)
    scores = TargetScores(none, none, none, none.astype(bool), none.astype(int), {"abs-error": evaluated}, {})
    if canaries is not None:
        scores = replace(scores, canaries={"abs-error": canaries})
    plan = TargetPlan("cnn3d", ModelConfig(), Design(("a",), ("b",)))
    utility = Utility(members=1.0, non_members=2.0, null=3.0, gap=1.0)
    return Judged(plan, (), utility, scores, {}, defence or {})


def test_a_leak_gives_a_bound_and_none_gives_zero():
    (loss,) = privacy_losses(judged(leaking(3.0)), RunConfig(), 1)
    assert loss.on == "participants"
    assert loss.lower == loss.bounds[0].epsilon > 1.0
    assert loss.upper is None
    (nothing,) = privacy_losses(judged(leaking(0.0)), RunConfig(), 1)
    assert nothing.lower == 0.0


def test_people_who_were_not_drawn_and_differ_give_no_bound():
    older = {COVARIATES_BEST: leaking(1.0, seed=5)}
    unlike = judged(leaking(3.0))
    unlike = unlike._replace(scores=replace(unlike.scores, controls=older))
    (loss,) = privacy_losses(unlike, RunConfig(), 1, drawn=False)
    assert (loss.lower, loss.bounds) == (None, [])
    assert "age, sex and site alone rank members above non-members" in loss.reason
    assert privacy_losses(unlike, RunConfig(), 1)[0].lower > 1.0
    assert privacy_losses(unlike, parse_config({"split": {"coin": True}}), 1, drawn=False)[0].lower > 1.0
    (alike,) = privacy_losses(judged(leaking(3.0)), RunConfig(), 1, drawn=False)
    assert alike.bounds[0].assumption.startswith("members and non-members differ as people by chance alone")


def test_the_level_is_shared_among_all_bounds_of_a_run():
    (loss,) = privacy_losses(judged(leaking(1.0)), RunConfig(), 3)
    assert [bound.level for bound in loss.bounds] == pytest.approx([1 - 0.05 / 6] * 2)
    rng = Streams(0).child("epsilon/cnn3d/participants").generator("0")
    alone = HeldOutThreshold(1 - 0.05 / 6).bound(canaries_of(leaking(1.0)), 1e-6, rng)
    assert loss.bounds[0].epsilon == alone.epsilon


def test_one_run_is_bounded_only_where_coins_were_tossed():
    tossed = parse_config({"split": {"coin": True}})
    methods = [b.method for b in privacy_losses(judged(leaking(1.0)), tossed, 1)[0].bounds]
    assert [method.startswith("one run") for method in methods] == [False, False, True, True]
    assert not any(
        "one run" in b.method for b in privacy_losses(judged(leaking(1.0)), RunConfig(), 1)[0].bounds
    )


def test_canaries_are_bounded_in_one_run_alone():
    config = parse_config({"canaries": {"count": 40}})
    ordinary, canaries = privacy_losses(judged(leaking(0.0), leaking(4.0, size=20)), config, 1)
    assert (ordinary.lower, canaries.on) == (0.0, "canaries")
    assert canaries.lower > 0.5
    assert [bound.method.split(",")[0] for bound in canaries.bounds] == ["one run"] * 2
    assert canaries.bounds[0].level == pytest.approx(1 - 0.05 / 4)


def test_the_accountants_epsilon_stands_beside_it():
    facts = {"privacy_epsilon": "1.97"}
    (loss,) = privacy_losses(judged(leaking(1.0), defence=facts), parse_config(PRIVATE), 1)
    assert (loss.upper, loss.delta) == (1.97, 1e-4)
    endless = {"privacy_epsilon": "inf"}
    assert privacy_losses(judged(leaking(1.0), defence=endless), parse_config(PRIVATE), 1)[0].upper is None


def test_only_the_first_attacker_counts():
    one = leaking(2.0)
    noise = np.random.default_rng(1).normal(size=one.scores.shape)
    both = Evaluated(np.concatenate([one.scores, noise]), np.zeros(2), one.members, one.participants)
    first = Evaluated(one.scores, np.zeros(1), one.members, one.participants)
    assert privacy_losses(judged(both), RunConfig(), 1) == privacy_losses(judged(first), RunConfig(), 1)
    with pytest.raises(ValueError, match="scores of one attacker, got 2"):
        canaries_of(both, coin=True)


def test_two_people_are_too_few_for_a_bound():
    assert privacy_losses(judged(one_repeat([1.0], [0.0, 0.5])), RunConfig(), 1) == []


def test_attackers_who_teach_each_other_would_break_a_one_run_bound():
    """Each of two people is guessed to be what the other is: without any leak both are right at once."""
    rng, above = np.random.default_rng(3), 0
    for _ in range(400):
        coins = rng.random(200) < 0.5
        crossed = coins.reshape(100, 2)[:, ::-1].ravel()
        scores = Evaluated(crossed[None] + 0.0, np.zeros(1), coins, np.arange(200))
        above += OneRun(50, 50).bound(canaries_of(scores, coin=True), 0.0, rng).epsilon > 0.0
    assert above / 400 > 0.07
