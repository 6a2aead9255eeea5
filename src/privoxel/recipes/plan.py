"""What a run will do, before it does it: its targets, its attacks, and what they need."""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from privoxel.attacks import ATTACKS, CENTRED, CENTRED_NAMES, WHEN_NAMED
from privoxel.attacks.base import Attack, ReferenceKind, needs_models, needs_one_shadow, reference_kind
from privoxel.attacks.paper import EncoderAttack
from privoxel.cohort.base import Cohort
from privoxel.cohort.cache import cached_size
from privoxel.cohort.splits import Design, training_rows
from privoxel.config import RunConfig
from privoxel.errors import ConfigError, StoreError
from privoxel.evaluation.draws import AUDIT_FOLDS, REPRODUCTION_REPEATS
from privoxel.progress import duration
from privoxel.recipes.course import course_bytes, course_passes
from privoxel.recipes.pace import IMAGE, Pace, measure_pace
from privoxel.recipes.shadow_plans import SETTINGS, ShadowPlan, available, shadow_plans, unsupported
from privoxel.recipes.target import TargetPlan
from privoxel.training.runtime import Runtime

PER_SCAN_STEP = 1.4
"""How much longer a step takes that reads every scan's gradient (``benchmarks/RESULTS.md``, private step)."""
WATCHED_EPOCH = 1.3
"""How much longer an epoch takes after which the members are predicted, as early stopping needs it."""
INFERENCE = 1 / 3
"""What predicting a scan takes of a training step."""
ATTACK_SECONDS, IMAGE_SECONDS = 1.0, 0.01
"""Seconds of one core that an attack takes on a draw, and that the paper's image encoder takes besides for
each value of an image. Of the order of what audits with 200 to 400 leaked participants recorded: 0.001 to 4 s
for most attacks, 10 to 20 s for the encoder of 1,024 values."""
VOLUMETRIC_ONLY = frozenset({"activation", "quantile-activation", "quantile-gaussian-activation"})


def plan_targets(config: RunConfig, designs: Sequence[Design]) -> tuple[TargetPlan, ...]:
    """Return every model × design × training; after each design with ``others`` its null target."""
    plans: list[TargetPlan] = []
    for model in config.models:
        for k, design in enumerate(designs, start=1):
            name = model.name if len(designs) == 1 else f"{model.name}-{k}"
            plans.append(TargetPlan(name, model, design, k))
            plans += [
                TargetPlan(f"{name}-training-{repeat}", model, design, k, training=repeat)
                for repeat in range(2, config.split.trainings + 1)
            ]
            if design.others and config.split.null_target is not False:
                plans.append(TargetPlan(f"{name}-null", model, design, k, is_null=True))
    return tuple(plans)


def chosen_attacks(config: RunConfig) -> Mapping[str, Attack]:
    """Return the attacks of the run by name, in registry order; ``all`` is ``ATTACKS`` without some.

    Raises:
        ConfigError: naming every unknown attack, or a primary attack that is not among those run.
    """
    asked = set(config.attacks.names)
    listed = {**ATTACKS, **WHEN_NAMED}
    known = {**listed, **CENTRED}
    everything = {name for name, attack in ATTACKS.items() if available(attack, config)}
    everything -= set(config.attacks.without)
    names = everything | (asked - {"all"}) if "all" in asked else asked
    besides = {config.attacks.primary, *config.attacks.null_target, *config.attacks.other_scans}
    unknown = sorted((names | besides | set(config.attacks.without)) - set(known))
    if unknown:
        raise ConfigError(
            f"[attacks] needs names among {', '.join(sorted(listed))}, got {', '.join(unknown)}. "
            f"Correct them; {CENTRED_NAMES}."
        )
    for kind in ReferenceKind:
        lacking = [n for n in sorted(names) if not available(known[n], config)]
        idle = [n for n in lacking if reference_kind(known[n]) is kind]
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
    return {name: attack for name, attack in known.items() if name in names}


def attacks_on(plan: TargetPlan, attacks: Mapping[str, Attack], config: RunConfig) -> tuple[Attack, ...]:
    """Return the attacks that apply to the target: on a null target the chosen few."""
    names = {config.attacks.primary, *config.attacks.null_target} if plan.is_null else set(attacks)
    names -= set(not_run_on(plan, attacks, config))
    return tuple(attack for name, attack in attacks.items() if name in names)


def not_run_on(plan: TargetPlan, attacks: Mapping[str, Attack], config: RunConfig) -> Mapping[str, str]:
    """Return why some of ``attacks`` cannot run on the target, by name: the run leaves them out.

    Those of volumes on a network of slices; and those that only ``all`` stands for, not named themselves, for
    which its reference models are not enough.
    """
    faults: dict[str, str] = {}
    if "all" in config.attacks.names and any(map(needs_models, attacks.values())):
        named = {config.attacks.primary, *config.attacks.null_target, *config.attacks.names}
        found = unsupported(tuple(attacks.values()), plan, config)
        faults = {name: fault for name, fault in found.items() if name not in named}
    if plan.model.name != "cnn3d":
        why = "Attack {} reads the last layer of a 3D-CNN, got {}."
        faults |= {name: why.format(name, plan.model.name) for name in attacks if name in VOLUMETRIC_ONLY}
    return faults


def not_run(
    plans: Sequence[TargetPlan], attacks: Mapping[str, Attack], config: RunConfig
) -> Mapping[str, str]:
    """Return why some of ``attacks`` run on none of ``plans``, by name."""
    each = [not_run_on(plan, attacks, config) for plan in plans if not plan.is_null]
    return {name: each[0][name] for name in attacks if all(name in faults for faults in each)}


class Work(NamedTuple):
    """Seconds of waiting, and core-seconds."""

    seconds: float = 0.0
    core_seconds: float = 0.0

    def plus(self, seconds: float, cores: float = 1.0) -> "Work":
        """Return this work and other work of ``seconds`` on ``cores``."""
        return Work(self.seconds + seconds, self.core_seconds + seconds * cores)


class Needs(NamedTuple):
    """What a run needs.

    ``trainings`` are models to train, ``training``, ``reading`` (signals and predictions) and ``attacking``
    the work, ``disk`` and ``cache`` bytes in the run folder and in the cache of volumes, ``memory`` those
    that a process that trains holds; ``each`` are the seconds of training one reference model, by the name
    of its plan.
    """

    trainings: int
    training: Work
    reading: Work
    attacking: Work
    disk: float
    cache: float
    memory: float
    each: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """Seconds of waiting for all."""
        return self.training.seconds + self.reading.seconds + self.attacking.seconds

    @property
    def core_seconds(self) -> float:
        """Core-seconds of all."""
        return self.training.core_seconds + self.reading.core_seconds + self.attacking.core_seconds

    def __str__(self) -> str:
        parts = (("training", self.training), ("reading signals", self.reading), ("attacks", self.attacking))
        listed = ", ".join(f"{duration(work.seconds)} of {what}" for what, work in parts)
        return (
            f"about {duration(self.seconds)} at the measured pace ({listed}; {self.core_seconds / 3600:.2f} "
            f"core-hours), {_size(self.memory)} of memory for each training, {_size(self.disk)} of disk and "
            f"{_size(self.cache)} of cached volumes"
        )


class Crews(NamedTuple):
    """How many shadows are trained at a time, and how many attacks are run."""

    trainers: int = 1
    attackers: int = 1


ALONE = Crews()


def estimate_needs(
    plans: Sequence[TargetPlan], config: RunConfig, cohort: Cohort, runtime: Runtime, crews: Crews
) -> Needs:
    """Return what training, signals and attacks of ``plans`` and their shadows will take."""
    return needs_of(plans, config, cohort, measure_paces(config, cohort, runtime), runtime, crews)


def measure_paces(config: RunConfig, cohort: Cohort, runtime: Runtime) -> Mapping[str, Pace]:
    """Return the pace of every model, measured on a few steps."""
    chosen = tuple(chosen_attacks(config).values())
    return {model.name: measure_pace(model, chosen, config, cohort, runtime) for model in config.models}


def needs_of(
    plans: Sequence[TargetPlan],
    config: RunConfig,
    cohort: Cohort,
    paces: Mapping[str, Pace],
    runtime: Runtime,
    crews: Crews = ALONE,
) -> Needs:
    """Return what ``plans`` need at known paces; each shadow is trained on one thread."""
    chosen, factor = chosen_attacks(config), training_factor(config)
    training, reading, attacking, disk = Work(), Work(), Work(), 0.0
    for plan in plans:
        pace, judged = paces[plan.model.name], _observed(plan, cohort)
        epochs = plan.model.epochs or config.training.epochs
        scans = epochs * _trained(plan.trained_on, config, cohort) * factor + student_scans(config, epochs)
        scans += INFERENCE * epochs * _trained(plan.design.validation, config, cohort)
        training = training.plus(pace.seconds * scans, runtime.threads)
        attacks = attacks_on(plan, chosen, config)
        reading = reading.plus(_read_seconds(attacks, plan, config, pace) * judged, runtime.threads)
        seconds = attack_seconds(attacks, config, pace.image)
        attacking = attacking.plus(seconds / crews.attackers, crews.attackers)
        snapshots = 1 + epochs // config.training.snapshot_every
        further = course_bytes(attacks, plan, config, pace.tensors)
        disk += 4 * pace.weights * (snapshots + 3) + (pace.signal_bytes + further) * judged
    shadows, each = _shadow_plans(plans, config), dict[str, float]()
    for shadow in shadows:
        pace, count, judged = paces[shadow.target.model.name], len(shadow), _observed(shadow.target, cohort)
        each[shadow.name] = pace.shadow_seconds * _shadow_scans(shadow, config, cohort)
        waves = math.ceil(count / crews.trainers)
        training = training.plus(each[shadow.name] * waves, count / waves)
        predicting = INFERENCE * pace.shadow_seconds * len(cohort.rows_of(shadow.design.pool))
        reading = reading.plus(predicting * waves, count / waves)
        reading = reading.plus(INFERENCE * pace.seconds * judged * count, runtime.threads)
        disk += count * 4 * (pace.weights + judged)
        if any(needs_one_shadow(attack) for attack in chosen.values()):
            drawn = len(cohort.rows_of(shadow.design.pool))
            reading = reading.plus(pace.signal_seconds * drawn, runtime.threads)
            disk += pace.signal_bytes * drawn
    pretraining, brains = config.defences.pretraining, config.defences.public_brains
    if pretraining is not None:
        seconds = sum(pace.seconds for pace in paces.values()) * pretraining.epochs * brains
        training = training.plus(seconds, runtime.threads)
    cache = cached_size(cohort) * (1 + (brains / len(cohort) if config.defences.needs_public else 0))
    trainings = _trainings(plans, shadows, config)
    memory = max(pace.memory for pace in paces.values())
    return Needs(trainings, training, reading, attacking, disk, cache, memory, each)


def _read_seconds(attacks: Sequence[Attack], plan: TargetPlan, config: RunConfig, pace: Pace) -> float:
    """Return the seconds of reading everything that ``attacks`` need of one scan.

    Signals once and for every interval of the training, predictions on copies and of kept weights besides.
    """
    passes = course_passes(attacks, plan, config)
    return pace.signal_seconds * (1 + passes.gradients) + INFERENCE * pace.seconds * passes.predictions


def _trainings(plans: Sequence[TargetPlan], shadows: Sequence[ShadowPlan], config: RunConfig) -> int:
    """Return how many models are trained: also what a model starts from, and its student that is released."""
    defended = len(plans) + sum(len(shadow) for shadow in shadows if shadow.kind is ReferenceKind.SHADOW)
    students = sum(len(shadow) for shadow in shadows if shadow.kind is ReferenceKind.DISTILLED)
    starts = len(config.models) if config.defences.pretraining is not None else 0
    return defended * (1 if config.defences.distillation is None else 2) + students + starts


def training_factor(config: RunConfig) -> float:
    """Return how much longer training takes with the privacy and the defences of ``config``."""
    per_scan = config.privacy is not None or config.defences.keep_unique is not None
    watched = config.defences.stop_gap is not None
    return (PER_SCAN_STEP if per_scan else 1.0) * (WATCHED_EPOCH if watched else 1.0)


def attack_seconds(attacks: Sequence[Attack], config: RunConfig, image: int) -> float:
    """Return the seconds on one core that ``attacks`` take on all draws of the protocol.

    ``image`` are the values of the gradient that the paper's image encoder reads.
    """
    folds = REPRODUCTION_REPEATS if config.attacks.protocol == "reproduction" else AUDIT_FOLDS
    images = sum(isinstance(_inner(attack), EncoderAttack) and IMAGE in attack.requires for attack in attacks)
    return (config.attacks.repeats or folds) * (
        ATTACK_SECONDS * len(attacks) + IMAGE_SECONDS * image * images
    )


def _inner(attack: Attack) -> object:
    """Return the attack that is fitted: that on a shadow, where it is carried over from one."""
    return getattr(attack, "classifier", attack)


def _shadow_scans(shadow: ShadowPlan, config: RunConfig, cohort: Cohort) -> float:
    """Return how many scans a model of ``shadow`` is shown in the mean, in scans of a plain training."""
    scans = 0.0
    for k, epochs in enumerate(shadow.epochs):
        shown = _trained(shadow.design.members(k), config, cohort) * epochs
        if shadow.kind is ReferenceKind.SHADOW:  # students have no defence
            scans += shown * training_factor(config) + student_scans(config, epochs)
        else:
            scans += shown
    return scans / len(shadow)


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


def _size(count: float) -> str:
    megabytes = max(count / 1e6, 1)
    return f"{megabytes:.0f} MB" if megabytes < 1e4 else f"{megabytes / 1e3:.0f} GB"


def check_disk(needs: Needs, folder: Path) -> None:
    """Raise ``StoreError`` if the disk of ``folder`` has less room than ``needs``."""
    free = shutil.disk_usage(folder).free
    if needs.disk > free:
        raise StoreError(
            f"{folder} needs {needs.disk / 1e9:.1f} GB of free disk, got {free / 1e9:.1f} GB. "
            "Free some, or choose another --output."
        )
