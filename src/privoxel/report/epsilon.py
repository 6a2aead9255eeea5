"""The report's part on ε: what the attack shows of each training, beside what its accountant allows."""

from typing import NamedTuple

from privoxel.evaluation.results import LowerBound, PrivacyLoss, Results, Target
from privoxel.report.tables import DASH


class EpsilonRow(NamedTuple):
    """One bound on the ε of one training."""

    title: str
    where: str
    lower: str
    upper: str
    level: str
    method: str
    assumption: str


class EpsilonPart(NamedTuple):
    """Everything the page says about ε."""

    sentence: str
    has_accountant: bool
    rows: list[EpsilonRow]


def epsilon_part(results: Results) -> EpsilonPart | None:
    """Return the part on ε; None where nobody was judged for it."""
    losses = [(target, loss) for target in results.targets for loss in target.epsilon]
    if not losses:
        return None
    worst = max((loss for _, loss in losses), key=lambda loss: -1.0 if loss.lower is None else loss.lower)
    upper = [loss.upper for _, loss in losses if loss.upper is not None]
    rows = [_row(target, loss, bound) for target, loss in losses for bound in loss.bounds]
    return EpsilonPart(_sentence(worst), bool(upper), rows)


def _row(target: Target, loss: PrivacyLoss, bound: LowerBound) -> EpsilonRow:
    return EpsilonRow(
        f"{loss.title} on {loss.n_members} + {loss.n_non_members} {loss.on}",
        f"{target.name} · {loss.threat_model}",
        f"{bound.epsilon:.2f}",
        DASH if loss.upper is None else f"{loss.upper:.2f}",
        f"{100 * bound.level:.4g} %",
        bound.method,
        bound.assumption,
    )


def _sentence(loss: PrivacyLoss) -> str:
    """Return what the largest bound means to somebody who decides on a release."""
    if loss.lower is None:
        return f"No bound is given: {loss.reason}. --match age,sex,site compares people who are alike."
    at = f"(at δ = {loss.delta:g})"
    if loss.lower <= 0.0:
        shown = (
            f"This bound shows nothing: ε is at least 0 {at}. It needs more people or a stronger attack than "
            "the verdict does, so that a leak may well be shown above, and is no evidence of privacy."
        )
    else:
        shown = (
            f"The training loses more privacy than ε = {loss.lower:.2f} {at}, with 95 % confidence: no "
            "training of that ε would let the attack be right as often. This is a lower bound, and the truth "
            "may be far above it."
        )
    if loss.upper is None:
        return f"{shown} No upper bound is known: the training had no differential privacy of a finite ε."
    if loss.lower > loss.upper:
        return (
            f"{shown} Its accountant allows {loss.upper:.2f}, which is less: the training does not keep its "
            "promise, or an assumption below does not hold. Find out before anything is released."
        )
    return f"{shown} Its accountant promises that it is at most {loss.upper:.2f}."
