"""What a run will do, before it does it: its targets, its attacks, and what they need."""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from privoxel.attacks import ATTACKS
from privoxel.attacks.base import Attack, needs_models
from privoxel.cohort.base import Cohort
from privoxel.cohort.splits import Design
from privoxel.config import ModelConfig, RunConfig
from privoxel.errors import ConfigError, StoreError
from privoxel.models import build_model
from privoxel.recipes.shadows import shadow_design, unsupported
from privoxel.recipes.target import TargetPlan, needed_signals, spec_of
from privoxel.seeding import torch_stream
from privoxel.signals.extract import Extraction, signal_bytes
from privoxel.training.runtime import Runtime

VOLUMETRIC_ONLY = frozenset({"activation"})


def plan_targets(config: RunConfig, designs: Sequence[Design]) -> tuple[TargetPlan, ...]:
    """Return every model × design; after each, where the design has ``others``, its null target."""
    plans: list[TargetPlan] = []
    for model in config.models:
        for k, design in enumerate(designs, start=1):
            name = model.name if len(designs) == 1 else f"{model.name}-{k}"
            plans.append(TargetPlan(name, model, design, k))
            if design.others:
                plans.append(TargetPlan(f"{name}-null", model, design, k, is_null=True))
    return tuple(plans)


def chosen_attacks(config: RunConfig) -> Mapping[str, Attack]:
    """Return the attacks of the run by name, in registry order.

    Raises:
        ConfigError: naming every unknown attack, or a primary attack that is not among those run.
    """
    asked = set(config.attacks.names)
    known = set(ATTACKS)
    with_shadows = {name for name, attack in ATTACKS.items() if needs_models(attack)}
    everything = known if config.shadows.count else known - with_shadows
    names = everything | (asked - {"all"}) if "all" in asked else asked
    unknown = sorted((names | {config.attacks.primary, *config.attacks.null_target}) - known)
    if unknown:
        raise ConfigError(
            f"[attacks] needs names among {', '.join(sorted(known))}, got {', '.join(unknown)}. Correct them."
        )
    idle = sorted(names & with_shadows)
    if idle and not config.shadows.count:
        raise ConfigError(
            f"[attacks] {', '.join(idle)} need shadow models, got none. "
            "Set [shadows] count, or leave them out."
        )
    missing = {config.attacks.primary, *config.attacks.null_target} - names
    if missing:
        raise ConfigError(
            f"[attacks] names need to include the primary and null-target attacks, got none called "
            f"{', '.join(sorted(missing))}. Add them to names."
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
    if config.shadows.count and "all" in config.attacks.names:
        named = {config.attacks.primary, *config.attacks.null_target, *config.attacks.names}
        names -= set(unsupported(tuple(attacks.values()), shadow_design(plan, config), config)) - named
    return tuple(attack for name, attack in attacks.items() if name in names)


class Needs(NamedTuple):
    """What a run needs: seconds of training at a pace measured on a few steps, and bytes of disk."""

    seconds: float
    disk: float

    def __str__(self) -> str:
        megabytes = max(self.disk / 1e6, 1)
        return f"about {_duration(self.seconds)} of training at the measured pace, {megabytes:.0f} MB of disk"


def estimate_needs(plans: Sequence[TargetPlan], config: RunConfig, cohort: Cohort, runtime: Runtime) -> Needs:
    """Return the time and disk that training and signals of ``plans`` will take."""
    seconds = disk = 0.0
    paces = {model.name: _measure(model, config, cohort, runtime) for model in config.models}
    for plan in plans:
        pace, weights, signals = paces[plan.model.name]
        epochs = plan.model.epochs or config.training.epochs
        seconds += pace * epochs * len(cohort.rows_of(plan.trained_on))
        snapshots = 1 + epochs // config.training.snapshot_every
        judged = len(cohort.rows_of((*plan.design.members, *plan.design.non_members)))
        disk += 4 * weights * (snapshots + 3) + signals * judged
    return Needs(seconds, disk)


def check_disk(needs: Needs, folder: Path) -> None:
    """Raise ``StoreError`` if the disk of ``folder`` has less room than ``needs``."""
    free = shutil.disk_usage(folder).free
    if needs.disk > free:
        raise StoreError(
            f"{folder} needs {needs.disk / 1e9:.1f} GB of free disk, got {free / 1e9:.1f} GB. "
            "Free some, or choose another --output."
        )


class _Pace(NamedTuple):
    seconds: float
    weights: int
    signal_bytes: int


def _measure(settings: ModelConfig, config: RunConfig, cohort: Cohort, runtime: Runtime) -> _Pace:
    """Return seconds per training scan, measured on two steps, weights, and bytes of signals a scan."""
    size = config.training.batch_size
    model = build_model(spec_of(settings), cohort.grid.shape, 60.0, 0)
    runtime.place(model)
    volumes = runtime.volumes(np.full((size, 1, *cohort.grid.shape), 0.5, dtype=np.float32))
    pace = 0.0
    for _ in range(2):
        started = time.perf_counter()
        with torch_stream(0), runtime.autocast():
            loss = model(volumes).float().square().mean()
        loss.backward()
        if runtime.device.startswith("cuda"):
            torch.cuda.synchronize()
        pace = (time.perf_counter() - started) / size
    model.eval()
    wanted = needed_signals(model, tuple(chosen_attacks(config).values()), config.signals.extra)
    weights = sum(p.numel() for p in model.parameters())
    return _Pace(pace, weights, signal_bytes(model, Extraction(wanted), volumes[:1]))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
