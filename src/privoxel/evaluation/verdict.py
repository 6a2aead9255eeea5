"""The audit's answer in one sentence: leak shown, no leak above the limit, inconclusive, or refused.

The rules are fixed and pure: they read estimates and errors, and nothing else. Their order is that of
``decide``: a model that does not work on its own members is judged first, since a wrong preprocessing
looks like perfect privacy.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

from privoxel.evaluation.detectable import minimal_detectable_auc, minimal_detectable_excess, widening_of
from privoxel.evaluation.metrics import to_metric
from privoxel.evaluation.results import BestAttack, Utility, Verdict
from privoxel.evaluation.scored import Estimate

Outcome = Literal["leak shown", "no leak above the limit", "inconclusive", "refused"]

DISCLAIMER = "Not a legal finding."

MEMBERS_BELOW_NULL = 0.9
"""The members' MAE may be at most this share of the null MAE."""

STATED_FACTOR = 1.5
"""The measured MAE may differ from the stated one by at most this factor, either way."""

STANDARD_ERRORS = 2.0
"""A difference between two MAEs must exceed this many standard errors to count."""


class Candidate(NamedTuple):
    """The best attack of no more access than the primary one; ``auc`` is corrected for the choice.

    ``excess``: paired difference of its AUC and that of the covariates at best, corrected for the choice
    too; asked for only where it counts (``excess_counts``).
    """

    best: BestAttack
    auc: Estimate
    excess: Estimate | None = None


@final
@dataclass(frozen=True)
class VerdictInputs:
    """What a verdict rests on.

    ``auc``: of the primary attack, None where there are no non-members. ``access``: what the adversary holds,
    as in "with black-box access". ``n_members``, ``n_non_members``: evaluated participants, or their
    effective numbers. ``utility``: mean absolute errors in years; ``members_mae_se``,
    ``non_members_mae_se``: their standard errors. ``control``: AUC from covariates only, by one told of as
    few people as the attacker; ``covariates``: the most that they could reach, None where it is not known;
    ``excess``: paired difference of the attack's AUC and that. ``null``: AUC between two halves of the
    non-members.
    ``tolerated_auc``: the limit below which a leak is tolerated. ``best``: None where the primary attack is
    the only one of its access.
    """

    primary_attack: str
    auc: Estimate | None
    n_members: float
    n_non_members: float
    utility: Utility
    access: str = "black-box"
    members_mae_se: float = 0.0
    non_members_mae_se: float = 0.0
    control: Estimate | None = None
    covariates: Estimate | None = None
    excess: Estimate | None = None
    null: Estimate | None = None
    tolerated_auc: float = 0.6
    best: Candidate | None = None


def decide(inputs: VerdictInputs) -> Verdict:
    """Return the verdict on one target.

    Refused where the model seems not to work or there is nobody to compare with. A leak is shown
    when the AUC's interval lies above 0.5 and, if covariates alone rank members above non-members, the excess
    over them lies above 0. Where the primary attack shows none, the best attack of no more access is asked
    the same, with its intervals corrected for the choice. No leak above the limit when the primary attack's
    interval lies below ``tolerated_auc``. Otherwise inconclusive.

    Raises:
        ValueError: if ``tolerated_auc`` does not lie between 0.5 and 1.
    """
    if not 0.5 < inputs.tolerated_auc <= 1.0:
        raise ValueError(
            f"tolerated_auc needs a value above 0.5 and at most 1, got {inputs.tolerated_auc}. 0.6 is usual."
        )
    refusals = refusal_reasons(inputs)
    estimate = inputs.auc
    if refusals or estimate is None:
        return _verdict(inputs, "refused", f"No verdict is given: {refusals[0]}.", refusals)
    reasons = _warnings(inputs, estimate)
    if _ends(estimate)[0] > 0.5:
        if not _explained_by_covariates(inputs, inputs.excess):
            sentence = f"A leak is shown: {_ranking(inputs)}{_beyond(inputs, inputs.excess)}."
            return _verdict(inputs, "leak shown", sentence, reasons)
        reasons.insert(0, _control_reason(inputs))
    if inputs.best is not None and _best_leaks(inputs.best, inputs):
        return _verdict(inputs, "leak shown", _best_sentence(inputs.best, inputs), reasons)
    if _ends(estimate)[1] < inputs.tolerated_auc:
        sentence = f"No leak above the limit of {_percent(inputs.tolerated_auc)}: {_ranking(inputs)}."
        return _verdict(inputs, "no leak above the limit", sentence, reasons)
    return _verdict(inputs, "inconclusive", _inconclusive_sentence(inputs), reasons)


def refusal_reasons(inputs: VerdictInputs) -> list[str]:
    """Return every reason why no verdict may be given; empty where one may.

    No members or non-members; a members' MAE above 0.9 of the null MAE, or within two standard errors of
    it; an MAE on unseen participants (on members where there are none) more than 1.5 times above or below
    what is stated, by more than two standard errors.
    """
    utility, reasons = inputs.utility, []
    if inputs.auc is None or inputs.auc.value is None or min(inputs.n_members, inputs.n_non_members) < 1:
        reasons.append("there are no members or no non-members to compare")
    clearance = STANDARD_ERRORS * inputs.members_mae_se
    if not utility.members < min(MEMBERS_BELOW_NULL * utility.null, utility.null - clearance):
        reasons.append(
            f"the model's error on its own members ({utility.members:.1f} years) is not clearly below that "
            f"of predicting the mean age ({utility.null:.1f} years), and wrong preprocessing or membership "
            "would look like perfect privacy"
        )
    measured, group, error = (
        (utility.members, "members", inputs.members_mae_se)
        if utility.non_members is None
        else (utility.non_members, "non-members", inputs.non_members_mae_se)
    )
    if utility.stated is not None and _is_far(measured, utility.stated, error):
        reasons.append(
            f"the model's error on {group} ({measured:.1f} years) is far from the stated "
            f"{utility.stated:.1f} years, so it may not be run as it was trained"
        )
    return reasons


def _is_far(measured: float, stated: float, standard_error: float) -> bool:
    outside = not stated / STATED_FACTOR <= measured <= stated * STATED_FACTOR
    return outside and abs(measured - stated) > STANDARD_ERRORS * standard_error


def excess_counts(control: Estimate | None, covariates: Estimate | None) -> bool:
    """Return whether covariates alone rank members above non-members, so that the excess over them counts.

    The control's value decides and not its interval: where a small difference between the groups escapes the
    interval of the control, it need not escape that of the attack. A control told of few people may miss a
    difference altogether: what ``covariates`` at best are shown to rank counts, too.
    """
    is_told = control is not None and control.value is not None and control.value > 0.5
    return is_told or (covariates is not None and _ends(covariates)[0] > 0.5)


def _counts(inputs: VerdictInputs) -> bool:
    return excess_counts(inputs.control, inputs.covariates)


def _explained_by_covariates(inputs: VerdictInputs, excess: Estimate | None) -> bool:
    """Return whether covariates alone could be what the attack found: it is not shown to beat them."""
    if not _counts(inputs):
        return False
    return excess is None or not _ends(excess)[0] > 0.0


def _reached_by_covariates(inputs: VerdictInputs) -> float:
    """Return the AUC that the excess is counted over: of the covariates at best, or of the control."""
    known = (one.value for one in (inputs.covariates, inputs.control) if one is not None)
    return next((value for value in known if value is not None), 0.5)


def _best_leaks(candidate: Candidate, inputs: VerdictInputs) -> bool:
    above = _ends(candidate.auc)[0] > 0.5
    return above and not _explained_by_covariates(inputs, candidate.excess)


def _best_sentence(candidate: Candidate, inputs: VerdictInputs) -> str:
    best, auc = candidate.best, candidate.auc
    return (
        f"A leak is shown, though not by the primary attack: the best of {best.candidates} attacks of the "
        f"same access, “{best.title}”, ranks a random member above a random non-member "
        f"{_percent(auc.value or 0.0)} of the time ({_interval(auc)}, widened for choosing the best; 50 % is "
        f"guessing){_beyond(inputs, candidate.excess)}."
    )


def _best_reason(candidate: Candidate, primary: str) -> str:
    best, auc = candidate.best, candidate.auc
    which = "the primary attack itself" if best.name == primary else f"“{best.title}”"
    return (
        f"The best of {best.candidates} attacks of the same access is {which}, AUC {auc.value or 0.0:.2f} "
        f"({_interval(auc)}, widened for choosing the best; p = {best.p_value:.3f})"
    )


def _beyond(inputs: VerdictInputs, excess: Estimate | None) -> str:
    """Return what an attack reaches beyond covariates alone, "" where these do not rank at all."""
    if not _counts(inputs) or excess is None:
        return ""
    share = _percent(_reached_by_covariates(inputs))
    value, (low, high) = excess.value or 0.0, _ends(excess)
    return (
        f"; age, sex and site alone reach {share}, so the excess over them counts: {100 * value:.0f} points "
        f"({100 * excess.level:g} % interval {100 * low:.0f} to {100 * high:.0f})"
    )


def _warnings(inputs: VerdictInputs, estimate: Estimate) -> list[str]:
    reasons = []
    if inputs.null is not None and not _ends(inputs.null)[0] <= 0.5 <= _ends(inputs.null)[1]:
        reasons.append(
            "Warning: the attack tells two random halves of the non-members apart "
            f"({_interval(inputs.null)}), so its result may be an artefact"
        )
    if _ends(estimate)[1] < 0.5:
        reasons.append(
            "Warning: the attack ranks non-members above members more often than not; check that the two "
            "lists are not swapped"
        )
    return reasons


def _control_reason(inputs: VerdictInputs) -> str:
    beyond = "was not compared with that"
    if inputs.excess is not None and inputs.excess.low is not None:
        low, high = (100.0 * end for end in _ends(inputs.excess))
        beyond = f"does not clearly exceed that (excess {low:.0f} to {high:.0f} points)"
    share = _percent(_reached_by_covariates(inputs))
    return (
        f"age, sex and site alone rank members above non-members {share} of the time, and the attack {beyond}"
    )


def _ends(estimate: Estimate) -> tuple[float, float]:
    """Return the interval's ends; all real numbers where there is no interval."""
    low = -math.inf if estimate.low is None else estimate.low
    return low, math.inf if estimate.high is None else estimate.high


def _ranking(inputs: VerdictInputs) -> str:
    estimate = inputs.auc or Estimate(None, None, None)
    return (
        f"with {inputs.access} access, an adversary ranks a random member above a random non-member "
        f"{_percent(estimate.value or 0.0)} of the time ({_interval(estimate)}; 50 % is guessing)"
    )


def _inconclusive_sentence(inputs: VerdictInputs) -> str:
    return (
        f"Inconclusive: {_ranking(inputs)}, which neither shows a leak nor rules out one above "
        f"{_percent(inputs.tolerated_auc)}."
    )


def _interval(estimate: Estimate) -> str:
    low, high = _ends(estimate)
    if math.isinf(low) or math.isinf(high):
        return "no interval"
    return f"{100 * estimate.level:g} % interval {_number(low)} to {_percent(high)}"


def _number(fraction: float) -> str:
    """Return a percentage without its sign, with a decimal where whole numbers would mislead at 50 %."""
    whole = f"{100 * fraction:.0f}"
    return f"{100 * fraction:.1f}" if whole in {"50", "100"} and fraction not in {0.5, 1.0} else whole


def _percent(fraction: float) -> str:
    return f"{_number(fraction)} %"


def detectable_auc(inputs: VerdictInputs) -> float | None:
    """Return the smallest true AUC that this verdict's rule calls a leak in four of five such audits.

    Where the excess over the covariates counts, it is their AUC and the smallest detectable excess. None
    without members or non-members.
    """
    if min(inputs.n_members, inputs.n_non_members) < 1 or inputs.auc is None:
        return None
    sizes = inputs.n_members, inputs.n_non_members
    found = minimal_detectable_auc(*sizes, level=inputs.auc.level, widening=widening_of(inputs.auc, *sizes))
    if inputs.excess is not None and _counts(inputs):
        beyond = minimal_detectable_excess(inputs.excess)
        if beyond is not None:
            found = max(found, _reached_by_covariates(inputs) + beyond)
    return min(found, 1.0)


def _power(detectable: float, inputs: VerdictInputs) -> str:
    found = f"with this many participants, 4 of 5 audits find a true AUC of {_percent(detectable)} or more"
    if not _counts(inputs):
        return found
    return f"{found} ({_percent(_reached_by_covariates(inputs))} being age, sex and site)"


def _verdict(inputs: VerdictInputs, outcome: Outcome, sentence: str, reasons: list[str]) -> Verdict:
    detectable = detectable_auc(inputs)
    if detectable is not None:
        reasons = [*reasons, _power(detectable, inputs)]
    if inputs.best is not None and outcome != "refused":
        reasons = [*reasons, _best_reason(inputs.best, inputs.primary_attack)]
    return Verdict(
        outcome=outcome,
        sentence=sentence,
        reasons=reasons,
        primary_attack=inputs.primary_attack,
        auc=None if inputs.auc is None else to_metric(inputs.auc),
        minimal_detectable_auc=detectable,
        tolerated_auc=inputs.tolerated_auc,
        best=None if inputs.best is None else inputs.best.best,
    )
