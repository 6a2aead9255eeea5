"""What the page says of a model: its attacks over all its targets, or on its only one."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeGuard

from privoxel.evaluation.results import AttackResult, Metric, Results, Target


class Group(NamedTuple):
    """All attacks and controls of one model: over its targets where there are several."""

    model: str
    n_targets: int
    attacks: tuple["Named", ...]
    controls: tuple["Named", ...]


class Named(NamedTuple):
    """The metrics of one attack with its names."""

    name: str
    title: str
    threat_model: str
    metrics: Mapping[str, Metric]


def model_groups(results: Results) -> list[Group]:
    """Return one group per model: its summary over targets, or its only target."""
    groups = []
    for model in dict.fromkeys(target.model for target in results.targets):
        targets = [target for target in results.targets if target.model == model]
        summary = {row.name: row.metrics for row in results.summary if row.model == model}
        use_summary = len(targets) > 1 and bool(summary)
        groups.append(
            Group(
                model,
                len(targets) if use_summary else 1,
                _named(targets, "attacks", summary if use_summary else None),
                _named(targets, "controls", summary if use_summary else None),
            )
        )
    return groups


def _named(
    targets: Sequence[Target], kind: str, summary: Mapping[str, Mapping[str, Metric]] | None
) -> tuple[Named, ...]:
    first: dict[str, AttackResult] = {}
    for target in targets if summary is not None else targets[:1]:
        for attack in getattr(target, kind):
            first.setdefault(attack.name, attack)
    return tuple(
        Named(name, attack.title, attack.threat_model, attack.metrics if summary is None else summary[name])
        for name, attack in first.items()
        if summary is None or name in summary
    )


def most_exposed(groups: Sequence[Group], primary: str) -> Group | None:
    """The group on which the primary attack does best; the first where it was not measured."""

    def primary_auc(group: Group) -> float:
        aucs = [
            one.metrics["auc"].value for one in group.attacks if one.name == primary and "auc" in one.metrics
        ]
        return max((auc for auc in aucs if auc is not None), default=-1.0)

    usable = [group for group in groups if group.attacks]
    return max(usable, key=primary_auc, default=None)


def is_measured(group: Group | None) -> TypeGuard[Group]:
    """Whether there is an AUC or an accuracy to draw."""
    shown = ("auc", "balanced_accuracy")
    return group is not None and any(
        one.metrics[name].value is not None for one in group.attacks for name in shown if name in one.metrics
    )
