"""The most accurate of many attacks, with an interval that accounts for the choice.

The companion of ``selection`` for balanced accuracy. Over one target the interval is simultaneous: the value
± q standard errors, q being the quantile of the largest deviation over all attacks when each participant's
contribution is multiplied by a standard normal (``multipliers``), so that attacks that call the same people
count as few. Where the setting was chosen, too, among others that are judged on the same people, the largest
is that over the attacks of all of them. Over several targets it is the interval over targets × participants,
at the level that Bonferroni leaves to each attack and setting.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.evaluation.combine import over_targets
from privoxel.evaluation.intervals import cluster_codes
from privoxel.evaluation.metrics import balanced_accuracy, draws_for, ones_like
from privoxel.evaluation.multipliers import largest_deviation, said_among, standard_errors
from privoxel.evaluation.reciprocity import widening_of_calls
from privoxel.evaluation.scored import Estimate, Evaluated
from privoxel.evaluation.weighted import weighted_balanced_accuracy

METRIC = "balanced_accuracy"

Targets = Sequence[Mapping[str, Evaluated]]
"""For each target of a setting the attacks' scores by name."""


class MostAccurate(NamedTuple):
    """The chosen attack; ``accuracy`` holds for it although it was the best of ``candidates``."""

    name: str
    accuracy: Estimate
    candidates: int


def most_accurate(
    targets: Targets, rng: np.random.Generator, *, level: float = 0.95, others: Sequence[Targets] = ()
) -> MostAccurate:
    """Return the attack of the largest mean balanced accuracy over ``targets``, corrected for the choice.

    Args:
        targets: for each target the attacks' scores by name; participants' codes are common to all.
        rng: of multipliers and bootstraps.
        level: of the interval, over all attacks (of all settings) at once.
        others: the same of the other settings among which this one was chosen, on the same people.

    Raises:
        ValueError: if there are no attacks, the targets were not attacked alike, or ``others`` are of other
            people.
    """
    if not targets or not targets[0] or any(list(one) != list(targets[0]) for one in targets):
        raise ValueError(
            f"most_accurate needs targets with the same attacks, got {len(targets)} targets. "
            "Keep the attacks they share."
        )
    names = list(targets[0])
    values = np.array([[_accuracy(one[name]) for name in names] for one in targets]).mean(axis=0)
    place = int(values.argmax())
    chosen, among = names[place], said_among(len(names), 1 + len(others))
    if len(targets) > 1:
        each = 1.0 - (1.0 - level) / (len(names) * (1 + len(others)))
        found = over_targets([one[chosen] for one in targets], METRIC, rng=rng, level=each)
        method = f"Bonferroni over {among}: {found.method}"
        return MostAccurate(chosen, found._replace(level=level, method=method), len(names))
    (target,) = targets
    single = balanced_accuracy(target[chosen], rng, draws=draws_for(target[chosen]), level=level)
    if len(names) == 1 and not others:
        return MostAccurate(chosen, single, 1)
    reach = _reach([target, *(other[0] for other in others)], place, rng, level)
    value = float(values.max())
    low = max(min(value - reach, value if single.low is None else single.low), 0.0)
    high = min(max(value + reach, value if single.high is None else single.high), 1.0)
    method = f"simultaneous over {among}, Gaussian multipliers of participants"
    return MostAccurate(chosen, Estimate(value, low, high, level, method, single.sd_repeats), len(names))


def _accuracy(evaluated: Evaluated) -> float:
    return float(weighted_balanced_accuracy(evaluated, ones_like(evaluated))[0])


def _reach(
    settings: Sequence[Mapping[str, Evaluated]], chosen: int, rng: np.random.Generator, level: float
) -> float:
    """Return how far the interval of attack number ``chosen`` of the first setting reaches to either side."""
    scored = [one for setting in settings for one in setting.values()]
    if any(not np.array_equal(one.participants, scored[0].participants) for one in scored):
        raise ValueError(
            "most_accurate needs the same people in every setting, got others. Compare settings of one "
            "configuration."
        )
    deviations = np.stack([accuracy_contributions(one) for one in scored])
    freedom = max(min(scored[0].n_members, scored[0].n_non_members) - 1, 1)
    quantile = largest_deviation(deviations, freedom, rng, level)
    return quantile * float(standard_errors(deviations)[chosen])


def accuracy_contributions(evaluated: Evaluated) -> FloatArray:
    """Return what each participant adds to the mean balanced accuracy beyond the mean, in the order of codes.

    The root of their sum of squares is the standard error; it includes the widening for attackers who judge
    each other's teachers (``reciprocity``).
    """
    codes = cluster_codes(evaluated)
    added = np.zeros(int(codes.max()) + 1)
    right = (evaluated.scores > evaluated.thresholds[:, None]) == evaluated.members
    for row, called in zip(~np.isnan(evaluated.scores), right, strict=True):
        for group in (evaluated.members, ~evaluated.members):
            scans = row & group
            people = len(np.unique(codes[scans]))
            small = np.sqrt(people / (people - 1)) if people > 1 else 1.0
            parts = (called[scans] - called[scans].mean()) * small / (2.0 * scans.sum())
            added += np.bincount(codes[scans], parts, minlength=len(added)) / len(right)
    return added * widening_of_calls(evaluated, right, (True, False))
