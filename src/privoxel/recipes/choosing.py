"""The best of many attacks on each model, corrected for having been chosen."""

from collections.abc import Sequence
from typing import NamedTuple

from privoxel.attacks import get_attack
from privoxel.attacks.base import ThreatModel
from privoxel.config import RunConfig
from privoxel.evaluation.metrics import to_metric
from privoxel.evaluation.results import BestAttack
from privoxel.evaluation.scored import Estimate
from privoxel.evaluation.selection import best_over_targets
from privoxel.recipes.judging import Judged
from privoxel.seeding import Streams


class Chosen(NamedTuple):
    """The best of the attacks ``names`` on the targets of one model, as reports tell it, and its AUC."""

    names: tuple[str, ...]
    record: BestAttack
    auc: Estimate


def best_attacks(judged: Sequence[Judged], config: RunConfig) -> list[Chosen]:
    """Return the best of all attacks on each model, over its targets; none where there is only one attack."""
    models = dict.fromkeys(one.plan.model.name for one in judged)
    groups = [[one for one in judged if one.plan.model.name == model] for model in models]
    return list(filter(None, (best_of(targets, shared_attacks(targets), config) for targets in groups)))


def best_of(
    targets: Sequence[Judged],
    names: Sequence[str],
    config: RunConfig,
    *,
    level: float = 0.95,
    known: Sequence[Chosen] = (),
) -> Chosen | None:
    """Return the best of the attacks ``names`` on the targets of one model; None of fewer than two.

    What is among ``known`` already is not computed again.
    """
    if len(names) < 2:
        return None
    model = targets[0].plan.model.name
    for one in known:
        if (one.record.model, one.names, one.auc.level) == (model, tuple(names), level):
            return one
    rng = Streams(config.seed).generator(f"best/{model}/{','.join(names)}")
    scores = [{name: one.scores.evaluated[name] for name in names} for one in targets]
    best = best_over_targets(scores, rng, level=level)
    attack = get_attack(best.name)
    record = BestAttack(
        name=best.name,
        title=attack.title,
        threat_model=str(attack.threat_model),
        model=model,
        n_targets=len(targets),
        candidates=best.candidates,
        auc=to_metric(best.auc),
        p_value=best.p_value,
    )
    return Chosen(tuple(names), record, best.auc)


def shared_attacks(targets: Sequence[Judged]) -> list[str]:
    """Return the names of the attacks that ran on all ``targets``, in their order."""
    return [
        name for name in targets[0].scores.evaluated if all(name in one.scores.evaluated for one in targets)
    ]


def of_no_more_access(names: Sequence[str], primary: str) -> list[str]:
    """Return those of the attacks ``names`` that need no more access than the one called ``primary``."""
    allowed = {ThreatModel.BLACK_BOX, get_attack(primary).threat_model}
    return [name for name in names if get_attack(name).threat_model in allowed]
