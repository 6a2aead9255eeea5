"""Which reference models attacks on a target need: who trains them, for how long, from which weights.

Shadows that learn ages from a start of their own belong to a model and a design and not to a target, so that
the null target is attacked with the same ones. Students, and shadows that start from the target's weights,
belong to one target. Equal names are the same models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from privoxel.attacks.base import (
    Attack,
    ReferenceKind,
    ThreatModel,
    fewest_references,
    needs_one_shadow,
    reference_kind,
)
from privoxel.cohort.shadow_design import ShadowDesign, balanced_design, distilled_design, population_design
from privoxel.config import RunConfig
from privoxel.errors import ConfigError
from privoxel.recipes.target import TargetPlan
from privoxel.seeding import Streams

SETTINGS: Mapping[ReferenceKind, str] = {
    ReferenceKind.SHADOW: "[shadows] count",
    ReferenceKind.DISTILLED: "[shadows] distilled",
}


@final
@dataclass(frozen=True)
class ShadowPlan:
    """Reference models of one kind: ``design`` says who trains each, ``epochs`` how long each is trained.

    ``name`` is that of their folders, jobs and random streams.
    """

    name: str
    kind: ReferenceKind
    target: TargetPlan
    design: ShadowDesign
    epochs: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.design)


def count_of(kind: ReferenceKind, config: RunConfig) -> int:
    """Return how many models of ``kind`` the configuration asks for."""
    return config.shadows.distilled if kind is ReferenceKind.DISTILLED else config.shadows.count


def available(attack: Attack, config: RunConfig) -> bool:
    """Return whether the configuration trains models of the kind that ``attack`` reads, if it reads any."""
    kind = reference_kind(attack)
    return kind is None or count_of(kind, config) > 0


def shadow_plans(
    target: TargetPlan, attacks: Sequence[Attack], config: RunConfig
) -> Mapping[ReferenceKind, ShadowPlan]:
    """Return the reference models that ``attacks`` on ``target`` read, by kind; none that are not trained.

    Raises:
        ConfigError: if the configuration asks for models that cannot be drawn.
    """
    wanted = {reference_kind(attack) for attack in attacks}
    return {
        kind: shadow_plan(target, config, kind)
        for kind in ReferenceKind
        if kind in wanted and count_of(kind, config)
    }


def shadow_plan(target: TargetPlan, config: RunConfig, kind: ReferenceKind) -> ShadowPlan:
    """Return who trains the reference models of ``kind`` for ``target``, and for how long.

    Raises:
        ConfigError: if the configuration asks for models that cannot be drawn.
    """
    name = shadow_name(target, config, kind)
    draw = _distilled if kind is ReferenceKind.DISTILLED else shadow_design
    full = target.model.epochs or config.training.epochs
    shorter = config.shadows.epochs or full
    # The first of warm starts is trained in full: the others' beginning is its end.
    is_first_full = kind is ReferenceKind.SHADOW and config.shadows.warm_start is True
    count = count_of(kind, config)
    epochs = tuple(full if is_first_full and k == 0 else shorter for k in range(count))
    return ShadowPlan(name, kind, target, draw(target, config), epochs)


def shadow_design(target: TargetPlan, config: RunConfig) -> ShadowDesign:
    """Return who trains the shadows of the model and design of ``target``.

    Raises:
        ConfigError: if the configuration asks for shadows that cannot be drawn.
    """
    settings, design = config.shadows, target.design
    rng = shadow_streams(f"{target.model.name}-{target.number}", config).generator("design")
    if settings.design == "balanced":
        return balanced_design(
            _judged(target),
            settings.count,
            rng,
            fraction=settings.fraction or 0.5,
            target_members=design.members,
        )
    if not design.others:
        raise ConfigError(
            "[shadows] design = 'population' needs participants who are not judged, got none. "
            "Set [split] others, or design = 'balanced'."
        )
    fraction = settings.fraction or min(1.0, len(design.members) / len(design.others))
    return population_design(design.others, settings.count, rng, judged=_judged(target), fraction=fraction)


def shadow_name(target: TargetPlan, config: RunConfig, kind: ReferenceKind = ReferenceKind.SHADOW) -> str:
    """Return the name of the reference models of ``kind``: equal names are the same models."""
    shared = f"{target.model.name}-{target.number}"
    own = f"{shared}-null" if target.is_null else shared
    own = own if target.training == 1 else f"{own}-training-{target.training}"
    if kind is ReferenceKind.DISTILLED:
        return f"{own}-distilled"
    return f"{own}-tuned" if config.shadows.warm_start == "target" else shared


def shadow_streams(name: str, config: RunConfig) -> Streams:
    """Return the randomness of the reference models called ``name``."""
    return Streams(config.seed).child(f"shadows/{name}")


def unsupported(attacks: Sequence[Attack], target: TargetPlan, config: RunConfig) -> Mapping[str, str]:
    """Return why the reference models of ``target`` are not enough, by the name of each attack they fail."""
    plans = shadow_plans(target, attacks, config)
    faults: dict[str, str] = {}
    for attack in attacks:
        kind = reference_kind(attack)
        if kind is not None:
            fault = _fault(attack, kind, plans.get(kind), config)
            faults |= {attack.name: fault} if fault else {}
    return faults


def _fault(attack: Attack, kind: ReferenceKind, plan: ShadowPlan | None, config: RunConfig) -> str | None:
    if plan is None:
        return f"Attack {attack.name} needs {kind}, got none. Set {SETTINGS[kind]}."
    is_inside = kind is ReferenceKind.SHADOW and config.shadows.design == "balanced"
    inside = plan.design.inside.sum(axis=0) if is_inside else None
    low, high = (0, 0) if inside is None else (int(inside.min()), int(inside.max()))
    need, have = fewest_references(attack), (low, len(plan) - high)
    if need[0] > have[0] or need[1] > have[1]:
        return (
            f"Attack {attack.name} needs {need[0]} {kind} trained on every participant and {need[1]} "
            f"that are not, got {have[0]} and {have[1]}. Raise {SETTINGS[kind]} or choose another design."
        )
    if needs_one_shadow(attack) and not plan.design.unseen(0):
        return (
            f"Attack {attack.name} needs non-members of the shadow, got none. Set [shadows] fraction below 1."
        )
    return None


def threat_model_of(attack: Attack, config: RunConfig) -> ThreatModel:
    """Return what the adversary of ``attack`` holds in this run: weights, if its shadows start from them."""
    starts_there = config.shadows.warm_start == "target" and reference_kind(attack) is ReferenceKind.SHADOW
    return ThreatModel.WHITE_BOX if starts_there else attack.threat_model


def _distilled(target: TargetPlan, config: RunConfig) -> ShadowDesign:
    name = shadow_name(target, config, ReferenceKind.DISTILLED)
    rng = shadow_streams(name, config).generator("design")
    return distilled_design(target.design.others, config.shadows.distilled, rng, judged=_judged(target))


def _judged(target: TargetPlan) -> tuple[str, ...]:
    return (*target.design.members, *target.design.non_members)
