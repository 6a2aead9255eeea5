"""How often an accusation is right when members are as rare among the suspects as they truly are.

A test set with as many members as non-members flatters every attack. Precision at prevalence π is
π TPR / (π TPR + (1 - π) FPR), and follows from the two rates alone.
"""

import math

from privoxel.evaluation.intervals import clopper_pearson, describe, effective_participants
from privoxel.evaluation.metrics import ones_like
from privoxel.evaluation.scored import Estimate, Evaluated
from privoxel.evaluation.weighted import weighted_hits


def precision_at(
    *, hits: int, members: int, alarms: int, non_members: int, prevalence: float, level: float = 0.95
) -> Estimate:
    """Return the precision (positive predictive value) at a true ``prevalence`` (0-1) of members.

    Args:
        hits: member participants that were called members, of ``members``.
        members: evaluated member participants.
        alarms: non-member participants that were called members, of ``non_members``.
        non_members: evaluated non-member participants.
        prevalence: share of members among those whom the adversary would test.
        level: of the interval.

    The threshold must not have been chosen on these participants. Precision rises with TPR and falls with
    FPR, so exact (Clopper-Pearson) intervals of the two rates, which are independent, at level √``level``
    each bound it at ``level`` or more. Without any call the value is None.

    >>> found = precision_at(hits=50, members=100, alarms=5, non_members=100, prevalence=0.01)
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.092, 0.031, 0.311)

    Raises:
        ValueError: if a count exceeds its total, a total is below one, or a share is not between 0 and 1.
    """
    counts_fit = 0 <= hits <= members and 0 <= alarms <= non_members and min(members, non_members) >= 1
    if not counts_fit or not 0.0 < prevalence < 1.0 or not 0.0 < level < 1.0:
        raise ValueError(
            f"precision_at needs counts within their totals and shares between 0 and 1, got {hits} of "
            f"{members}, {alarms} of {non_members}, prevalence {prevalence} and level {level}. Mend them."
        )
    return _estimate((hits / members, members), (alarms / non_members, non_members), prevalence, level)


def precision_of(evaluated: Evaluated, prevalence: float, *, level: float = 0.95) -> Estimate:
    """Return the precision of an attack's calls at its own thresholds, at a ``prevalence`` (0-1) of members.

    The two rates are means over repeats; their intervals are exact for the effective numbers of participants.
    """
    ones = ones_like(evaluated)
    tpr = float(weighted_hits(evaluated, ones, True)[0])
    fpr = 1.0 - float(weighted_hits(evaluated, ones, False)[0])
    members, non_members = effective_participants(evaluated)
    found = _estimate((tpr, members), (fpr, non_members), prevalence, level)
    return found._replace(method=describe(found.method, evaluated))


def _estimate(
    called: tuple[float, float], accused: tuple[float, float], prevalence: float, level: float
) -> Estimate:
    """Return the precision from (rate, number of participants) of members and of non-members."""
    each = math.sqrt(level)
    tpr, fpr = called[0], accused[0]
    tpr_low, tpr_high = clopper_pearson(tpr, called[1], each)
    fpr_low, fpr_high = clopper_pearson(fpr, accused[1], each)
    low, high = _precision(tpr_low, fpr_high, prevalence), _precision(tpr_high, fpr_low, prevalence)
    method = f"exact binomial rates, prevalence {100 * prevalence:g} %"
    if tpr + fpr <= 0.0:
        return Estimate(None, None, None, level, method, reason="nobody was called a member")
    return Estimate(_precision(tpr, fpr, prevalence), low, high, level, method)


def _precision(tpr: float, fpr: float, prevalence: float) -> float:
    called = prevalence * tpr + (1.0 - prevalence) * fpr
    return prevalence * tpr / called if called > 0.0 else 1.0
