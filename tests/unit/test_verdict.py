from dataclasses import replace

import pytest

from privoxel.evaluation.detectable import minimal_detectable_auc, widening_of
from privoxel.evaluation.metrics import to_metric
from privoxel.evaluation.results import BestAttack, Utility
from privoxel.evaluation.scored import Estimate
from privoxel.evaluation.verdict import DISCLAIMER, Candidate, VerdictInputs, decide

WORKING = Utility(members=1.4, non_members=3.1, null=6.25, gap=1.7, stated=3.0)


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, 0.95, "DeLong")


def inputs(auc: Estimate | None, **changes: object) -> VerdictInputs:
    return replace(VerdictInputs("threshold", auc, 200, 190, WORKING, members_mae_se=0.1), **changes)


LEAK = estimate(0.78, 0.74, 0.82)
QUIET = estimate(0.52, 0.47, 0.57)
UNSURE = estimate(0.55, 0.48, 0.62)


def test_a_leak_is_said_in_one_plain_sentence():
    verdict = decide(inputs(LEAK))
    assert verdict.outcome == "leak shown"
    assert verdict.sentence == (
        "A leak is shown: with black-box access, an adversary ranks a random member above a random "
        "non-member 78 % of the time (95 % interval 74 to 82 %; 50 % is guessing)."
    )
    assert verdict.auc.value == 0.78
    assert DISCLAIMER == "Not a legal finding."


def test_an_interval_below_the_limit_is_no_leak_above_it():
    verdict = decide(inputs(QUIET, access="white-box"))
    assert verdict.outcome == "no leak above the limit"
    assert verdict.sentence.startswith("No leak above the limit of 60 %: with white-box access")


def test_an_interval_that_holds_both_guessing_and_the_limit_is_inconclusive():
    verdict = decide(inputs(UNSURE))
    assert verdict.outcome == "inconclusive"
    assert verdict.sentence.endswith("neither shows a leak nor rules out one above 60 %.")


def test_the_limit_decides_between_quiet_and_inconclusive():
    assert decide(inputs(QUIET, tolerated_auc=0.55)).outcome == "inconclusive"
    assert decide(inputs(UNSURE, tolerated_auc=0.65)).outcome == "no leak above the limit"


@pytest.mark.parametrize(("low", "outcome"), [(0.5, "no leak above the limit"), (0.5001, "leak shown")])
def test_the_low_end_must_lie_above_guessing(low, outcome):
    assert decide(inputs(estimate(0.54, low, 0.58))).outcome == outcome


@pytest.mark.parametrize("auc", [LEAK, QUIET, UNSURE])
def test_every_verdict_states_what_it_could_have_found(auc):
    verdict = decide(inputs(auc))
    widening = widening_of(auc, 200, 190)
    assert verdict.minimal_detectable_auc == minimal_detectable_auc(200, 190, widening=widening)
    shown = f"{100 * verdict.minimal_detectable_auc:.0f}"
    assert verdict.reasons[-1] == (
        f"with this many participants, 4 of 5 audits find a true AUC of {shown} % or more"
    )


def test_what_could_have_been_found_beyond_the_covariates_is_their_auc_and_the_smallest_excess():
    control, excess = estimate(0.6, 0.55, 0.65), estimate(0.02, -0.05, 0.09)
    verdict = decide(inputs(QUIET, control=control, excess=excess))
    assert verdict.minimal_detectable_auc == pytest.approx(0.6 + 0.07 * (1 + 0.8416 / 1.96), abs=1e-3)
    assert verdict.reasons[-1].endswith("70 % or more (60 % being age, sex and site)")


def test_a_wider_interval_could_have_found_less():
    narrow, wide = decide(inputs(QUIET)), decide(inputs(estimate(0.52, 0.45, 0.59)))
    assert wide.minimal_detectable_auc > narrow.minimal_detectable_auc


def test_what_covariates_explain_is_not_a_leak_of_the_model():
    control = estimate(0.76, 0.71, 0.81)
    verdict = decide(inputs(LEAK, control=control, excess=estimate(0.02, -0.01, 0.05)))
    assert verdict.outcome == "inconclusive"
    assert "age, sex and site alone rank members above non-members 76 % of the time" in verdict.reasons[0]
    assert "excess -1 to 5 points" in verdict.reasons[0]


def test_an_excess_over_the_covariates_is_a_leak():
    control = estimate(0.6, 0.55, 0.65)
    verdict = decide(inputs(LEAK, control=control, excess=estimate(0.18, 0.12, 0.24)))
    assert verdict.outcome == "leak shown"
    assert verdict.sentence.endswith(
        "; age, sex and site alone reach 60 %, so the excess over them counts: 18 points (95 % interval "
        "12 to 24)."
    )


def test_what_the_covariates_reach_at_best_is_said_where_it_is_known():
    control = estimate(0.6, 0.55, 0.65)
    verdict = decide(
        inputs(LEAK, control=control, covariates=estimate(0.63, 0.58, 0.68), excess=estimate(0.15, 0.1, 0.2))
    )
    assert "age, sex and site alone reach 63 %, so the excess over them counts: 15 points" in verdict.sentence
    assert any("(63 % being age, sex and site)" in reason for reason in verdict.reasons)
    less = decide(inputs(LEAK, control=control, excess=estimate(0.15, 0.1, 0.2)))
    assert verdict.minimal_detectable_auc == pytest.approx(less.minimal_detectable_auc + 0.03)


@pytest.mark.parametrize(("value", "outcome"), [(0.5, "leak shown"), (0.501, "inconclusive")])
def test_the_excess_counts_as_soon_as_covariates_rank_members_above_non_members(value, outcome):
    """What escapes the control's interval need not escape the attack's."""
    control = estimate(value, 0.46, 0.56)
    assert decide(inputs(LEAK, control=control, excess=estimate(0.0, -0.1, 0.1))).outcome == outcome


@pytest.mark.parametrize(("low", "outcome"), [(0.5, "leak shown"), (0.501, "inconclusive")])
def test_the_excess_counts_too_where_covariates_at_best_are_shown_to_rank(low, outcome):
    """A control told of few people may miss a difference that the attack finds."""
    known = {"control": estimate(0.49, 0.47, 0.51), "excess": estimate(0.0, -0.1, 0.1)}
    assert decide(inputs(LEAK, covariates=estimate(0.53, low, 0.56), **known)).outcome == outcome


def test_a_control_above_chance_that_was_not_compared_holds_the_claim_back():
    verdict = decide(inputs(LEAK, control=estimate(0.6, 0.55, 0.65)))
    assert verdict.outcome == "inconclusive"
    assert verdict.reasons[0].endswith("the attack was not compared with that")


@pytest.mark.parametrize(
    ("utility", "error", "fragment"),
    [
        ({"members": 5.7}, 0.01, "not clearly below that of predicting the mean age"),
        ({"members": 5.5}, 0.4, "not clearly below"),
        ({"non_members": 4.6}, 0.1, "far from the stated 3.0 years"),
        ({"non_members": 1.9}, 0.1, "far from the stated 3.0 years"),
        ({"non_members": None, "members": 5.0}, 0.1, "error on members (5.0 years) is far"),
    ],
)
def test_a_model_that_does_not_work_as_stated_gets_no_verdict(utility, error, fragment):
    case = inputs(
        QUIET, utility=WORKING.model_copy(update=utility), members_mae_se=error, non_members_mae_se=0.1
    )
    verdict = decide(case)
    assert verdict.outcome == "refused"
    assert fragment in verdict.sentence
    assert verdict.sentence.startswith("No verdict is given: ")


def test_a_model_just_good_enough_gets_a_verdict():
    utility = WORKING.model_copy(update={"members": 5.6, "non_members": 4.4})
    assert decide(inputs(QUIET, utility=utility)).outcome != "refused"
    wide = WORKING.model_copy(update={"non_members": 4.6})
    assert decide(inputs(QUIET, utility=wide, non_members_mae_se=0.9)).outcome != "refused"
    unstated = WORKING.model_copy(update={"stated": None, "non_members": 12.0})
    assert decide(inputs(QUIET, utility=unstated)).outcome != "refused"


def test_without_non_members_there_is_no_verdict_and_every_reason_is_given():
    utility = WORKING.model_copy(update={"members": 6.2, "non_members": None, "gap": None})
    verdict = decide(inputs(None, n_non_members=0, utility=utility))
    assert verdict.outcome == "refused"
    assert verdict.auc is None
    assert verdict.minimal_detectable_auc is None
    assert len(verdict.reasons) == 3


def test_a_null_control_off_guessing_is_a_warning_and_not_an_outcome():
    verdict = decide(inputs(LEAK, null=estimate(0.58, 0.51, 0.65)))
    assert verdict.outcome == "leak shown"
    assert verdict.reasons[0].startswith(
        "Warning: the attack tells two random halves of the non-members apart"
    )
    assert not any("Warning" in reason for reason in decide(inputs(LEAK, null=QUIET)).reasons)


def test_an_attack_that_ranks_the_wrong_way_asks_to_check_the_lists():
    verdict = decide(inputs(estimate(0.3, 0.25, 0.35)))
    assert verdict.outcome == "no leak above the limit"
    assert "not swapped" in verdict.reasons[0]


def test_percentages_near_guessing_are_not_rounded_to_it():
    assert (
        "50.4 % of the time (95 % interval 46 to 54 %" in decide(inputs(estimate(0.504, 0.46, 0.54))).sentence
    )


@pytest.mark.parametrize("limit", [0.5, 1.2])
def test_a_limit_that_means_nothing_is_refused(limit):
    with pytest.raises(ValueError, match=r"tolerated_auc needs a value above 0\.5 and at most 1"):
        decide(inputs(QUIET, tolerated_auc=limit))


def candidate(auc: Estimate, excess: Estimate | None = None) -> Candidate:
    best = BestAttack(
        name="tube",
        title="Tube",
        threat_model="black-box",
        model="cnn3d",
        n_targets=1,
        candidates=12,
        auc=to_metric(auc),
        p_value=0.004,
    )
    return Candidate(best, auc, excess)


@pytest.mark.parametrize("primary", [QUIET, UNSURE])
def test_the_best_attack_with_its_wider_interval_may_show_the_leak_that_the_primary_did_not(primary):
    verdict = decide(inputs(primary, best=candidate(estimate(0.7, 0.56, 0.82))))
    assert verdict.outcome == "leak shown"
    assert verdict.sentence == (
        "A leak is shown, though not by the primary attack: the best of 12 attacks of the same access, "
        "“Tube”, ranks a random member above a random non-member 70 % of the time (95 % interval 56 to 82 %, "
        "widened for choosing the best; 50 % is guessing)."
    )
    assert verdict.auc.value == primary.value
    assert verdict.best.name == "tube"


def test_the_best_attack_shows_nothing_where_its_corrected_interval_reaches_guessing():
    without, given = decide(inputs(QUIET)), decide(inputs(QUIET, best=candidate(estimate(0.6, 0.5, 0.7))))
    assert given.outcome == without.outcome
    assert given.sentence == without.sentence
    assert any("The best of 12 attacks" in reason and "p = 0.004" in reason for reason in given.reasons)


def test_what_covariates_explain_is_no_leak_of_the_best_attack_either():
    shifted = estimate(0.63, 0.58, 0.68)
    leaking = estimate(0.7, 0.6, 0.8)
    explained = candidate(leaking, excess=estimate(0.02, -0.03, 0.07))
    beyond = candidate(leaking, excess=estimate(0.09, 0.03, 0.15))
    assert decide(inputs(QUIET, control=shifted, best=explained)).outcome == "no leak above the limit"
    leak = decide(inputs(QUIET, control=shifted, best=beyond))
    assert leak.outcome == "leak shown"
    assert leak.sentence.endswith(
        "50 % is guessing); age, sex and site alone reach 63 %, so the excess over them counts: 9 points "
        "(95 % interval 3 to 15)."
    )


def test_a_refused_verdict_names_no_best_attack():
    broken = WORKING.model_copy(update={"members": 6.2})
    verdict = decide(inputs(LEAK, utility=broken, best=candidate(LEAK)))
    assert verdict.outcome == "refused"
    assert not any("best of" in reason for reason in verdict.reasons)
