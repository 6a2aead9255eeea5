"""All finished settings on the same people: errors, best attacks and privacy of each, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks import get_attack
from privoxel.evaluation.best_accuracy import MostAccurate, most_accurate
from privoxel.evaluation.frontier import (
    Quantities,
    check_alike,
    draw_weights,
    estimate,
    quantities,
)
from privoxel.evaluation.frontier_results import (
    FrontierPoint,
    PrivacyBounds,
    Vulnerability,
)
from privoxel.evaluation.metrics import to_metric
from privoxel.evaluation.results import Metric
from privoxel.evaluation.scored import Evaluated
from privoxel.evaluation.selection import Best, best_over_targets
from privoxel.recipes.defending.bounding import bound_privacy
from privoxel.recipes.defending.reading import Finished, adversaries
from privoxel.recipes.defending.settings import FrontierConfig
from privoxel.seeding import Streams

LEVEL = 0.95


@final
@dataclass(frozen=True)
class Compared:
    """All finished settings on the same people.

    ``plain`` are the quantities themselves, ``drawn`` those under resampled participants; ``groups`` are the
    attacks of each adversary, ``primary`` is the one that was fixed beforehand.
    """

    finished: tuple[Finished, ...]
    plain: tuple[Quantities, ...]
    drawn: tuple[Quantities, ...]
    groups: Mapping[str, tuple[str, ...]]
    primary: str
    settings: FrontierConfig
    streams: Streams

    @property
    def names(self) -> tuple[str, ...]:
        """The settings' names."""
        return tuple(one.point.name for one in self.finished)

    def only(self, places: Sequence[int]) -> "Compared":
        """Return the comparison of the settings at ``places`` alone."""
        return replace(
            self,
            finished=tuple(self.finished[k] for k in places),
            plain=tuple(self.plain[k] for k in places),
            drawn=tuple(self.drawn[k] for k in places),
        )

    def column(self, quantity: Literal["mae", "gap", "model_gap"]) -> FloatArray:
        """Return a quantity of every setting."""
        return np.array([getattr(one, quantity)[0] for one in self.plain])

    def draws(self, quantity: Literal["mae", "gap", "model_gap"]) -> FloatArray:
        """Return a quantity of every setting in every draw: draws × settings."""
        return np.stack([getattr(one, quantity) for one in self.drawn], axis=1)


def compare_settings(finished: Sequence[Finished], settings: FrontierConfig, streams: Streams) -> Compared:
    """Return the quantities of all finished settings, also under participants drawn anew for all at once.

    Raises:
        ValueError: if they were not judged alike.
    """
    choices = [one.choice for one in finished]
    check_alike(choices)
    targets = choices[0].targets
    once = [np.ones((1, len(target.age))) for target in targets]
    weights = draw_weights(targets, settings.draws, streams.generator("participants"))
    with_auc = settings.metric == "auc"
    config = finished[0].point.config
    names = list(targets[0].evaluated)
    return Compared(
        tuple(finished),
        tuple(quantities(choice, once, with_auc=with_auc) for choice in choices),
        tuple(quantities(choice, weights, with_auc=with_auc) for choice in choices),
        adversaries(names, config),
        config.attacks.primary,
        settings,
        streams,
    )


def points_of(compared: Compared) -> list[FrontierPoint]:
    """Return every setting with its errors, its best attacks and its privacy."""
    private = bound_privacy(compared.finished, compared.primary)
    return [_point(k, compared, private.get(name)) for k, name in enumerate(compared.names)]


def _point(k: int, compared: Compared, privacy: PrivacyBounds | None) -> FrontierPoint:
    one, plain, drawn = compared.finished[k], compared.plain[k], compared.drawn[k]
    first = one.results.targets[0]

    def metric(value: FloatArray, draws: FloatArray) -> Metric:
        return to_metric(estimate(float(value[0]), draws))

    return FrontierPoint(
        name=one.point.name,
        family=one.point.family,
        folder=one.point.folder,
        changes=dict(one.point.changes),
        defence={name: str(value) for name, value in first.design.get("defence", {}).items()},
        n_targets=len(one.choice.targets),
        n_members=first.n_members,
        n_non_members=first.n_non_members,
        mae=metric(plain.mae, drawn.mae),
        r2=metric(plain.r2, drawn.r2),
        members_mae=metric(plain.members_mae, drawn.members_mae),
        gap=metric(plain.gap, drawn.gap),
        model_gap=metric(plain.model_gap, drawn.model_gap),
        null_mae=float(np.mean([target.utility.null for target in one.results.targets])),
        primary=to_metric(best_accuracy(one, (compared.primary,), compared).accuracy),
        vulnerability=[
            _vulnerability(one, adversary, names, compared) for adversary, names in compared.groups.items()
        ],
        privacy=privacy,
        seconds=one.seconds,
    )


def best_accuracy(
    one: Finished, names: Sequence[str], compared: Compared, among: Sequence[Finished] = ()
) -> MostAccurate:
    """Return the most accurate of the attacks ``names`` on a setting, corrected for the choice.

    ``among``: the other settings among which this one was chosen.
    """
    rng = compared.streams.generator(f"accuracy/{one.point.name}/{','.join(names)}")
    others = [scores_of(other, names) for other in among]
    return most_accurate(scores_of(one, names), rng, level=LEVEL, others=others)


def best_auc(one: Finished, names: Sequence[str], compared: Compared, among: Sequence[Finished] = ()) -> Best:
    """Return the attack of ``names`` with the largest AUC on a setting, corrected as ``best_accuracy``."""
    rng = compared.streams.generator(f"auc/{one.point.name}/{','.join(names)}")
    others = [scores_of(other, names) for other in among]
    return best_over_targets(scores_of(one, names), rng, level=LEVEL, others=others)


def scores_of(one: Finished, names: Sequence[str]) -> list[dict[str, Evaluated]]:
    """Return the scores of the attacks ``names`` on every target of a setting."""
    return [{name: target.evaluated[name] for name in names} for target in one.choice.targets]


def _vulnerability(one: Finished, adversary: str, names: Sequence[str], compared: Compared) -> Vulnerability:
    found = best_accuracy(one, names, compared)
    by_auc = best_auc(one, names, compared)
    return Vulnerability(
        adversary=adversary,
        candidates=found.candidates,
        attack=found.name,
        title=get_attack(found.name).title,
        accuracy=to_metric(found.accuracy),
        auc_attack=by_auc.name,
        auc_title=get_attack(by_auc.name).title,
        auc=to_metric(by_auc.auc),
        p_value=by_auc.p_value,
    )
