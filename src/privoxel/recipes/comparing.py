"""Each attack against the plain |error| threshold, paired by target and participant."""

from collections.abc import Iterable, Sequence

from privoxel.attacks import get_attack
from privoxel.evaluation.comparison import compare_attacks
from privoxel.evaluation.metrics import to_metric
from privoxel.evaluation.results import PairedComparison
from privoxel.recipes.choosing import shared_attacks
from privoxel.recipes.judging import Judged

BASELINE = "abs-error"


def compared_attacks(groups: Iterable[Sequence[Judged]]) -> list[PairedComparison]:
    """Return the comparison of every other attack with ``BASELINE`` on each group of targets of one model.

    None where the baseline did not run on all of a model's targets.
    """
    return [
        _compared(name, targets)
        for targets in groups
        if BASELINE in (shared := shared_attacks(targets))
        for name in shared
        if name != BASELINE
    ]


def _compared(name: str, targets: Sequence[Judged]) -> PairedComparison:
    attack = get_attack(name)
    mine, plain = ([one.scores.evaluated[key] for one in targets] for key in (name, BASELINE))
    found = compare_attacks(mine, plain)
    return PairedComparison(
        name=name,
        title=attack.title,
        threat_model=str(attack.threat_model),
        baseline=BASELINE,
        model=targets[0].plan.model.name,
        n_targets=len(targets),
        difference=to_metric(found.difference),
        finding=found.finding,
        margin=found.margin,
    )
