"""Which settings are worth choosing: utility against vulnerability, on the same people.

A setting is dominated when another errs no more and is no more vulnerable, and better in one of the two; the
others are the frontier. Every setting is judged on the same participants, so that differences are paired:
participants are drawn anew for all settings at once. Whether two settings are told apart is asked at the
level that Bonferroni leaves to each of a setting's comparisons. What another training of the same setting
would give is not in these intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np

from privoxel.arrays import BoolArray, FloatArray
from privoxel.evaluation.archive import TargetScores
from privoxel.evaluation.intervals import (
    auc_contributions,
    count_draws,
    participant_weights,
    percentile_ends,
    t_quantile,
)
from privoxel.evaluation.reciprocity import widening_of_calls
from privoxel.evaluation.scored import Estimate, Evaluated
from privoxel.evaluation.weighted import weighted_auc, weighted_balanced_accuracy

Metric = Literal["balanced_accuracy", "auc"]
METHOD = "bootstrap of participants"


@final
@dataclass(frozen=True)
class Choice:
    """One setting: the scores of its targets, one a design; participants' codes are common to all."""

    name: str
    targets: tuple[TargetScores, ...]


class Quantities(NamedTuple):
    """What one setting costs and what attacks reach, one value a draw, means over its targets.

    ``mae``, ``r2``: of the answers for non-members (years; 1 - squared error over that of their mean age).
    ``gap``: MAE of non-members minus members (years) of the answers, ``model_gap`` of the predictions behind
    them. ``accuracy`` and ``auc``: by attack.
    """

    mae: FloatArray
    r2: FloatArray
    gap: FloatArray
    model_gap: FloatArray
    members_mae: FloatArray
    accuracy: Mapping[str, FloatArray]
    auc: Mapping[str, FloatArray]


class Standing(NamedTuple):
    """Where one setting stands among all.

    ``share``: of the draws in which it is on the frontier. ``dominated_by``: settings at least as good in
    both; ``clearly``: one of them is told apart from it. ``alike``: settings that are not told apart from it
    in either.
    """

    name: str
    is_on_front: bool
    share: float
    dominated_by: tuple[str, ...]
    clearly: bool
    alike: tuple[str, ...]


class Recommended(NamedTuple):
    """The least vulnerable setting whose error is tolerated; ``loss``: its MAE over the reference's, less 1.

    ``candidates``: the settings whose error is.
    """

    name: str
    loss: Estimate
    candidates: tuple[str, ...]


def check_alike(choices: Sequence[Choice]) -> None:
    """Raise ``ValueError`` unless all settings are judged on the same people by the same attacks."""
    first = choices[0]
    for choice in choices:
        same = len(choice.targets) == len(first.targets) and all(
            np.array_equal(a.members, b.members)
            and np.array_equal(a.participants, b.participants)
            and list(a.evaluated) == list(b.evaluated)
            for a, b in zip(choice.targets, first.targets, strict=False)
        )
        if not same:
            raise ValueError(
                f"A frontier needs the same people and attacks for every setting, got others for "
                f"{choice.name} than for {first.name}. Run both from one configuration."
            )


def draw_weights(targets: Sequence[TargetScores], draws: int, rng: np.random.Generator) -> list[FloatArray]:
    """Return how often each scan of each target is drawn when the participants are: draws × scans each.

    With one target members and non-members are drawn apart; with several a person is in as many draws in all
    of them, whatever side they are on.
    """
    if len(targets) == 1:
        return [participant_weights(next(iter(targets[0].evaluated.values())), draws, rng)]
    known = np.unique(np.concatenate([target.participants for target in targets]))
    counts = count_draws(len(known), draws, rng)
    return [counts[:, np.searchsorted(known, target.participants)] for target in targets]


def quantities(choice: Choice, weights: Sequence[FloatArray], *, with_auc: bool = False) -> Quantities:
    """Return what ``choice`` costs and what attacks reach in every draw of ``weights``."""
    found = [_of_target(target, w, with_auc) for target, w in zip(choice.targets, weights, strict=True)]

    def mean(values: Sequence[FloatArray]) -> FloatArray:
        return np.asarray(np.mean(values, axis=0))

    def by_attack(tables: Sequence[Mapping[str, FloatArray]]) -> dict[str, FloatArray]:
        return {name: mean([table[name] for table in tables]) for name in tables[0]}

    return Quantities(
        mae=mean([one.mae for one in found]),
        r2=mean([one.r2 for one in found]),
        gap=mean([one.gap for one in found]),
        model_gap=mean([one.model_gap for one in found]),
        members_mae=mean([one.members_mae for one in found]),
        accuracy=by_attack([one.accuracy for one in found]),
        auc=by_attack([one.auc for one in found]),
    )


def _of_target(target: TargetScores, weights: FloatArray, with_auc: bool) -> Quantities:
    outside, inside = weights * ~target.members, weights * target.members
    error, raw = target.answered - target.age, target.prediction - target.age
    mae, members_mae = _mean(np.abs(error), outside), _mean(np.abs(error), inside)
    spread = _mean(target.age**2, outside) - _mean(target.age, outside) ** 2
    return Quantities(
        mae,
        1.0 - _mean(error**2, outside) / spread,
        mae - members_mae,
        _mean(np.abs(raw), outside) - _mean(np.abs(raw), inside),
        members_mae,
        {name: weighted_balanced_accuracy(one, weights) for name, one in target.evaluated.items()},
        {name: weighted_auc(one, weights) for name, one in target.evaluated.items()} if with_auc else {},
    )


def _mean(values: FloatArray, weights: FloatArray) -> FloatArray:
    return (weights @ values) / weights.sum(axis=1)


def estimate(value: float, drawn: FloatArray, level: float = 0.95) -> Estimate:
    """Return ``value`` with the percentile interval of its draws."""
    low, high = (float(end) for end in percentile_ends(drawn, level))
    return Estimate(value, min(low, value), max(high, value), level, METHOD)


def most_vulnerable(found: Quantities, attacks: Sequence[str], metric: Metric) -> FloatArray:
    """Return what the best of ``attacks`` reaches in every draw; another may be the best in another draw."""
    reached = found.auc if metric == "auc" else found.accuracy
    return np.max([reached[name] for name in attacks], axis=0)


def widening_of(evaluated: Evaluated, metric: Metric) -> float:
    """Return how much wider than a bootstrap's an interval is since attackers judge each other's teachers."""
    if metric == "auc":
        return auc_contributions(evaluated).widening
    right = (evaluated.scores > evaluated.thresholds[:, None]) == evaluated.members
    return widening_of_calls(evaluated, right, (True, False))


def non_dominated(costs: FloatArray) -> BoolArray:
    """Return which rows of ``costs`` (… × settings × costs) no other row dominates; equal rows both stay.

    >>> non_dominated(np.array([[1.0, 3.0], [2.0, 2.0], [2.0, 4.0]])).tolist()
    [True, True, False]
    """
    return np.asarray(~_dominates(costs).any(axis=-1))


def _dominates(costs: FloatArray) -> BoolArray:
    """Return whether the setting in the last axis dominates the one in the axis before it."""
    mine, others = costs[..., :, None, :], costs[..., None, :, :]
    return np.asarray((others <= mine).all(axis=-1) & (others < mine).any(axis=-1))


def stand(
    names: Sequence[str],
    costs: FloatArray,
    drawn: FloatArray,
    widenings: FloatArray,
    *,
    level: float = 0.95,
) -> list[Standing]:
    """Return where each setting stands.

    Args:
        names: of the settings.
        costs: MAE and vulnerability of each: settings × 2, the smaller the better.
        drawn: the same in every draw: draws × settings × 2.
        widenings: of each setting's vulnerability (``widening_of``).
        level: with which all comparisons of one setting hold at once.

    Raises:
        ValueError: if there are fewer than two settings.
    """
    count = len(names)
    if count < 2:
        raise ValueError(f"A frontier needs two settings or more, got {count}. Train more.")
    each = 1.0 - (1.0 - level) / (2 * (count - 1))
    apart = costs[None, :, :] - costs[:, None, :]  # the other (second) minus mine (first)
    spread = (drawn[:, None, :, :] - drawn[:, :, None, :]).std(axis=0)
    spread[:, :, 1] *= np.maximum(widenings[:, None], widenings[None, :])
    reach = t_quantile(each, np.inf) * spread
    is_better, is_worse = apart + reach < 0.0, apart - reach > 0.0
    dominates = _dominates(costs)
    clearly = dominates & is_better.any(axis=-1)
    alike = ~(is_better | is_worse).any(axis=-1)
    share = non_dominated(drawn).mean(axis=0)
    return [
        Standing(
            name,
            not bool(dominates[k].any()),
            float(share[k]),
            tuple(names[j] for j in np.flatnonzero(dominates[k]).tolist()),
            bool(clearly[k].any()),
            tuple(names[j] for j in np.flatnonzero(alike[k]).tolist() if j != k),
        )
        for k, name in enumerate(names)
    ]


def recommend(
    names: Sequence[str], costs: FloatArray, drawn_mae: FloatArray, *, reference: str, tolerated_loss: float
) -> Recommended:
    """Return the least vulnerable setting whose MAE is at most 1 + ``tolerated_loss`` times the reference's.

    ``costs`` are MAE and vulnerability: settings × 2; ``drawn_mae``: draws × settings. Of equally vulnerable
    settings the more accurate is taken.
    """
    base = list(names).index(reference)
    tolerated = np.flatnonzero(costs[:, 0] <= (1.0 + tolerated_loss) * costs[base, 0]).tolist()
    best = min(tolerated, key=lambda k: (float(costs[k, 1]), float(costs[k, 0])))
    loss = estimate(
        float(costs[best, 0] / costs[base, 0]) - 1.0, drawn_mae[:, best] / drawn_mae[:, base] - 1.0
    )
    return Recommended(names[best], loss, tuple(names[k] for k in tolerated))
