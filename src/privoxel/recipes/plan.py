"""What a run will do, before it does it: its targets, its attacks, and what they need."""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from privoxel.attacks import ATTACKS
from privoxel.attacks.base import Attack, ReferenceKind, needs_models, reference_kind
from privoxel.cohort.base import Cohort
from privoxel.cohort.splits import Design, training_rows
from privoxel.config import ModelConfig, RunConfig
from privoxel.errors import ConfigError, StoreError
from privoxel.executor import one_thread
from privoxel.models import AuditableModel, build_model, spec_of
from privoxel.recipes.shadow_plans import SETTINGS, ShadowPlan, available, shadow_plans, unsupported
from privoxel.recipes.target import TargetPlan, needed_signals
from privoxel.seeding import torch_stream
from privoxel.signals.extract import Extraction, signal_bytes
from privoxel.training.runtime import Runtime

VOLUMETRIC_ONLY = frozenset({"activation", "quantile-activation"})


def plan_targets(config: RunConfig, designs: Sequence[Design]) -> tuple[TargetPlan, ...]:
    """Return every model × design; after each, where the design has ``others``, its null target."""
    plans: list[TargetPlan] = []
    for model in config.models:
        for k, design in enumerate(designs, start=1):
            name = model.name if len(designs) == 1 else f"{model.name}-{k}"
            plans.append(TargetPlan(name, model, design, k))
            if design.others and config.split.null_target is not False:
                plans.append(TargetPlan(f"{name}-null", model, design, k, is_null=True))
    return tuple(plans)


def chosen_attacks(config: RunConfig) -> Mapping[str, Attack]:
    """Return the attacks of the run by name, in registry order.

    Raises:
        ConfigError: naming every unknown attack, or a primary attack that is not among those run.
    """
    asked = set(config.attacks.names)
    known = set(ATTACKS)
    everything = {name for name, attack in ATTACKS.items() if available(attack, config)}
    names = everything | (asked - {"all"}) if "all" in asked else asked
    besides = {config.attacks.primary, *config.attacks.null_target, *config.attacks.other_scans}
    unknown = sorted((names | besides) - known)
    if unknown:
        raise ConfigError(
            f"[attacks] needs names among {', '.join(sorted(known))}, got {', '.join(unknown)}. Correct them."
        )
    for kind in ReferenceKind:
        idle = sorted(n for n in names - everything if reference_kind(ATTACKS[n]) is kind)
        if idle:
            raise ConfigError(
                f"[attacks] {', '.join(idle)} need {kind}, got none. Set {SETTINGS[kind]}, or leave them out."
            )
    missing = besides - names
    if missing:
        raise ConfigError(
            f"[attacks] names need to include the primary, null-target and other-scan attacks, got none "
            f"called {', '.join(sorted(missing))}. Add them to names."
        )
    slices = [model.name for model in config.models if model.name != "cnn3d"]
    barred = sorted({config.attacks.primary, *config.attacks.null_target} & VOLUMETRIC_ONLY)
    if slices and barred:
        raise ConfigError(
            f"[attacks] primary and null_target need to apply to every model, got {', '.join(barred)}, which "
            f"does not to {', '.join(slices)}. Choose another."
        )
    return {name: attack for name, attack in ATTACKS.items() if name in names}


def attacks_on(plan: TargetPlan, attacks: Mapping[str, Attack], config: RunConfig) -> tuple[Attack, ...]:
    """Return the attacks that apply to the target: on a null target the chosen few, no 3-D ones on slices."""
    names = {config.attacks.primary, *config.attacks.null_target} if plan.is_null else set(attacks)
    if plan.model.name != "cnn3d":
        names -= VOLUMETRIC_ONLY
    if "all" in config.attacks.names and any(needs_models(attacks[name]) for name in names):
        named = {config.attacks.primary, *config.attacks.null_target, *config.attacks.names}
        names -= set(unsupported(tuple(attacks.values()), plan, config)) - named
    return tuple(attack for name, attack in attacks.items() if name in names)


class Needs(NamedTuple):
    """What a run needs: models to train, seconds of waiting and core-seconds for that, bytes of disk."""

    trainings: int
    seconds: float
    core_seconds: float
    disk: float

    def __str__(self) -> str:
        megabytes = max(self.disk / 1e6, 1)
        size = f"{megabytes:.0f} MB" if megabytes < 1e4 else f"{megabytes / 1e3:.0f} GB"
        return (
            f"about {duration(self.seconds)} of training at the measured pace "
            f"({self.core_seconds / 3600:.2f} core-hours), {size} of disk"
        )


class Pace(NamedTuple):
    """What a model costs: seconds per training scan (of a target; of a shadow, on one thread) and sizes."""

    seconds: float
    shadow_seconds: float
    weights: int
    signal_bytes: int


def estimate_needs(
    plans: Sequence[TargetPlan], config: RunConfig, cohort: Cohort, runtime: Runtime, *, workers: int = 1
) -> Needs:
    """Return what training and signals of ``plans`` and of their shadows will take."""
    return needs_of(plans, config, cohort, measure_paces(config, cohort, runtime), runtime, workers=workers)


def measure_paces(config: RunConfig, cohort: Cohort, runtime: Runtime) -> Mapping[str, Pace]:
    """Return the pace of every model, measured on a few steps."""
    return {model.name: _measure(model, config, cohort, runtime) for model in config.models}


def needs_of(
    plans: Sequence[TargetPlan],
    config: RunConfig,
    cohort: Cohort,
    paces: Mapping[str, Pace],
    runtime: Runtime,
    *,
    workers: int = 1,
) -> Needs:
    """Return what ``plans`` need at known paces; ``workers`` shadows are trained at a time, on one thread."""
    seconds = core_seconds = disk = 0.0
    for plan in plans:
        pace = paces[plan.model.name]
        epochs = plan.model.epochs or config.training.epochs
        scans = epochs * _trained(plan.trained_on, config, cohort) + student_scans(config, epochs)
        training = pace.seconds * scans
        seconds += training
        core_seconds += training * runtime.threads
        snapshots = 1 + epochs // config.training.snapshot_every
        disk += 4 * pace.weights * (snapshots + 3) + pace.signal_bytes * _observed(plan, cohort)
    shadows = _shadow_plans(plans, config)
    for shadow in shadows:
        pace, count = paces[shadow.target.model.name], len(shadow)
        members = (shadow.design.members(k) for k in range(count))
        defended = shadow.kind is ReferenceKind.SHADOW
        scans = sum(
            _trained(m, config, cohort) * n + (student_scans(config, n) if defended else 0)
            for m, n in zip(members, shadow.epochs, strict=True)
        )
        core_seconds += pace.shadow_seconds * scans
        seconds += pace.shadow_seconds * scans / count * math.ceil(count / workers)
        disk += count * 4 * (pace.weights + _observed(shadow.target, cohort))
        disk += pace.signal_bytes * len(cohort.rows_of(shadow.design.pool))
    pretraining = config.defences.pretraining
    if pretraining is not None:
        training = sum(pace.seconds for pace in paces.values())
        training *= pretraining.epochs * config.defences.public_brains
        seconds, core_seconds = seconds + training, core_seconds + training * runtime.threads
    return Needs(len(plans) + sum(map(len, shadows)), seconds, core_seconds, disk)


def student_scans(config: RunConfig, teacher_epochs: int) -> int:
    """Return how many public scans the student of a training is shown, all epochs together."""
    distillation = config.defences.distillation
    if distillation is None:
        return 0
    return (distillation.epochs or teacher_epochs) * config.defences.public_brains


def _shadow_plans(plans: Sequence[TargetPlan], config: RunConfig) -> tuple[ShadowPlan, ...]:
    """Return the reference models of all targets; those that targets share once."""
    chosen = chosen_attacks(config)
    found = [
        shadow
        for plan in plans
        for shadow in shadow_plans(plan, attacks_on(plan, chosen, config), config).values()
    ]
    return tuple({shadow.name: shadow for shadow in reversed(found)}.values())


def _trained(participants: Sequence[str], config: RunConfig, cohort: Cohort) -> int:
    return len(training_rows(cohort, participants, config.split.train_sessions))


def _observed(plan: TargetPlan, cohort: Cohort) -> int:
    return len(cohort.rows_of(plan.design.observed))


def _uses_shadows(config: RunConfig) -> bool:
    return any(map(needs_models, chosen_attacks(config).values()))


def check_disk(needs: Needs, folder: Path) -> None:
    """Raise ``StoreError`` if the disk of ``folder`` has less room than ``needs``."""
    free = shutil.disk_usage(folder).free
    if needs.disk > free:
        raise StoreError(
            f"{folder} needs {needs.disk / 1e9:.1f} GB of free disk, got {free / 1e9:.1f} GB. "
            "Free some, or choose another --output."
        )


def _measure(settings: ModelConfig, config: RunConfig, cohort: Cohort, runtime: Runtime) -> Pace:
    """Return seconds per training scan, measured on two steps, weights, and bytes of signals a scan."""
    size = config.training.batch_size
    model = build_model(spec_of(settings), cohort.grid.shape, 60.0, 0)
    runtime.place(model)
    volumes = runtime.volumes(np.full((size, 1, *cohort.grid.shape), 0.5, dtype=np.float32))
    pace = alone = _seconds_of_a_step(model, volumes, runtime) / size
    if _uses_shadows(config) and runtime.threads > 1:
        with one_thread():
            alone = _seconds_of_a_step(model, volumes, runtime) / size
    model.eval()
    wanted = needed_signals(model, tuple(chosen_attacks(config).values()), config.signals.extra)
    weights = sum(p.numel() for p in model.parameters())
    return Pace(pace, alone, weights, signal_bytes(model, Extraction(wanted), volumes[:1]))


def _seconds_of_a_step(model: AuditableModel, volumes: Tensor, runtime: Runtime) -> float:
    """Return the seconds of the second of two training steps; the first one warms up."""
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        with torch_stream(0), runtime.autocast():
            loss = model(volumes).float().square().mean()
        loss.backward()
        if runtime.device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    return seconds


def duration(seconds: float) -> str:
    """Return a time span as a reader says it.

    >>> duration(7200)
    '2.0 h'
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
