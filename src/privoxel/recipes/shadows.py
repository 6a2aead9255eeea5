"""Shadow models of a target: who trains them, their training as jobs, and the table of what they say.

Each shadow is trained as its target is, with its own seed, on one thread, as a job of the executor; its
weights and the note that it is finished stay in the run folder, so that no shadow is trained twice. All
shadows of a design are then read in one pass over the scans. Shadows belong to a model and a design and not
to a target, so that the null target is attacked with the same ones.
"""

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np

from privoxel.arrays import IntArray
from privoxel.attacks.base import Attack, fewest_references, needs_models, needs_one_shadow
from privoxel.cohort.base import Cohort
from privoxel.cohort.shadow_design import ShadowDesign, balanced_design, population_design
from privoxel.config import ModelConfig, PrivacyConfig, RunConfig, TrainingConfig
from privoxel.defence_config import DefenceConfig
from privoxel.errors import ConfigError
from privoxel.executor import Finished, Job
from privoxel.models import build_model, spec_of
from privoxel.progress import Silent
from privoxel.recipes.target import OPTIONAL_SIGNALS, TargetPlan, Workplace, pretrained, public_of, started
from privoxel.seeding import Streams
from privoxel.signals.extract import Extraction, extract, open_table, signal_file
from privoxel.signals.table import GRADIENT, PREDICTION, LazyArray, SignalTable
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.loop import predict_ages
from privoxel.training.released import train_released
from privoxel.training.runtime import Runtime

logger = logging.getLogger(__name__)

UNLIKE = 1.5
"""Shadows that err more than this many times as much as the target, or the reverse, do not stand for it."""


class Fidelity(NamedTuple):
    """Mean absolute errors (years) of the shadows on their own members and on scans they never saw."""

    models: int
    members: float
    non_members: float

    def note(self, members: float, non_members: float) -> str:
        """Return a line on shadows and a target of these errors; it says where they are unlike."""
        text = (
            f"shadows={self.models}, MAE {self.members:.1f}/{self.non_members:.1f} years "
            f"(target {members:.1f}/{non_members:.1f})"
        )
        ratios = (self.members / members, self.non_members / non_members)
        if any(not 1 / UNLIKE < ratio < UNLIKE for ratio in ratios):
            text += ": UNLIKE the target, attacks with them may be weak"
        return text


@final
@dataclass(frozen=True)
class Shadows:
    """What attacks may know of the shadows: all of them on the judged scans, and the first one in depth.

    ``first`` holds the first shadow alone, on the participants it was drawn from, with every signal of the
    attacks that use one shadow.
    """

    references: SignalTable
    first: SignalTable | None
    fidelity: Fidelity

    def models_for(self, attack: Attack) -> SignalTable | None:
        """Return what ``attack`` is given as ``Knowledge.models``."""
        if not needs_models(attack):
            return None
        return self.first if needs_one_shadow(attack) else self.references


def shadow_design(plan: TargetPlan, config: RunConfig) -> ShadowDesign:
    """Return who trains the shadows of the model and design of ``plan``.

    Raises:
        ConfigError: if the configuration asks for shadows that cannot be drawn.
    """
    settings, design = config.shadows, plan.design
    rng = _streams(plan, config).generator("design")
    if settings.design == "balanced":
        return balanced_design(
            (*design.members, *design.non_members),
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
    judged = (*design.members, *design.non_members)
    return population_design(design.others, settings.count, rng, judged=judged, fraction=fraction)


def unsupported(attacks: Sequence[Attack], design: ShadowDesign, config: RunConfig) -> Mapping[str, str]:
    """Return why the shadows of ``design`` are not enough, by the name of each attack that needs more."""
    inside = design.inside.sum(axis=0) if config.shadows.design == "balanced" else np.zeros(1, dtype=np.int64)
    have = int(inside.min()), len(design) - int(inside.max())
    faults = {}
    for attack in filter(needs_models, attacks):
        need = fewest_references(attack)
        if need[0] > have[0] or need[1] > have[1]:
            faults[attack.name] = (
                f"Attack {attack.name} needs {need[0]} shadows trained on every participant and {need[1]} "
                f"that are not, got {have[0]} and {have[1]}. Raise [shadows] count or choose another design."
            )
        elif needs_one_shadow(attack) and not design.unseen(0):
            faults[attack.name] = (
                f"Attack {attack.name} needs non-members of the shadow, got none. "
                "Set [shadows] fraction below 1."
            )
    return faults


@final
@dataclass(frozen=True)
class ShadowTraining:
    """One shadow to train: everything a worker process needs.

    ``warm`` are the folders of a finished training whose last weights it starts from, ``start`` such weights;
    ``validation`` are the rows that decide when training stops, those of the target.
    """

    settings: ModelConfig
    training: TrainingConfig
    cohort: Cohort
    rows: IntArray
    unseen: IntArray
    streams: Streams
    folders: TrainingFolders
    runtime: Runtime
    warm: TrainingFolders | None = None
    start: Path | None = None
    privacy: PrivacyConfig | None = None
    defence: DefenceConfig = field(default_factory=DefenceConfig)
    validation: IntArray | None = None
    public: Cohort | None = None


def train_shadow(shadow: ShadowTraining) -> dict[str, float]:
    """Train a shadow, keep its weights, and return its MAE (years) on its members and on unseen scans."""
    cohort, ages = shadow.cohort, shadow.cohort.covariates.age
    mine = ages[shadow.rows]
    seed = shadow.streams.seed("initialisation")
    start = shadow.warm.existing()[-1] if shadow.warm is not None else shadow.start
    model = started(shadow.settings, cohort, float(mine.mean()), seed, start)
    scale = float(np.var(mine)) if shadow.settings.head == "scaled" else 1.0
    validation = np.empty(0, dtype=np.int64) if shadow.validation is None else shadow.validation
    train_released(
        model,
        TrainingSet(cohort, shadow.rows, validation, loss_scale=scale),
        TrainingJob(
            shadow.training,
            shadow.streams,
            shadow.folders,
            shadow.runtime,
            Silent(),
            shadow.privacy,
            shadow.defence,
        ),
        public=shadow.public,
        build=lambda mean_age, seed: started(shadow.settings, cohort, mean_age, seed, shadow.start),
    )
    shutil.rmtree(shadow.folders.state, ignore_errors=True)
    errors = {}
    for name, rows in (("members", shadow.rows), ("non_members", shadow.unseen)):
        predicted = predict_ages(
            model, cohort, rows, batch_size=shadow.training.batch_size, runtime=shadow.runtime
        )
        errors[name] = float(np.abs(predicted - ages[rows]).mean())
    return errors


def observe_shadows(plan: TargetPlan, attacks: Sequence[Attack], workplace: Workplace) -> Shadows:
    """Train the shadows that ``attacks`` on ``plan``'s target need, or read them, and return their tables.

    Raises:
        ConfigError: if there are none to train.
    """
    config, cohort = workplace.config, workplace.cohort
    design, name = shadow_design(plan, config), shadow_name(plan)
    errors, weights = _train_all(plan, design, workplace)
    judged = cohort.select(cohort.rows_of((*plan.design.members, *plan.design.non_members)))
    folder = workplace.folder.path / "signals" / f"{name}-shadows"
    _extract(f"{name}/shadows", plan, weights, judged, (PREDICTION,), folder, workplace)
    predictions = np.load(folder / signal_file(PREDICTION))  # 1 × shadows × scans
    references = SignalTable(
        judged.covariates,
        tuple(f"{name}-shadow-{k}" for k in range(len(design))),
        ("last",),
        design.membership(judged.covariates),
        {PREDICTION: LazyArray(predictions[0][:, None])},
    )
    first = None
    deep = [attack for attack in attacks if needs_one_shadow(attack)]
    if deep:
        first = _first_shadow(plan, design, weights[:1], deep, workplace)
    means = {key: float(np.mean([e[key] for e in errors])) for key in ("members", "non_members")}
    return Shadows(references, first, Fidelity(len(design), **means))


def shadow_name(plan: TargetPlan) -> str:
    """Return the name that the shadows of a model and design have in folders."""
    return f"{plan.model.name}-{plan.number}"


def shadow_epochs(plan: TargetPlan, config: RunConfig, shadow: int) -> int:
    """Return the epochs of the shadow of this number: the first of warm starts has as many as the target."""
    full = plan.model.epochs or config.training.epochs
    first = config.shadows.warm_start and shadow == 0
    return full if first else config.shadows.epochs or full


def _streams(plan: TargetPlan, config: RunConfig) -> Streams:
    return Streams(config.seed).child(f"shadows/{shadow_name(plan)}")


def _train_all(
    plan: TargetPlan, design: ShadowDesign, workplace: Workplace
) -> tuple[list[Mapping[str, float]], list[Path]]:
    config, folder, name = workplace.config, workplace.folder.path, shadow_name(plan)
    trainings = [_training(plan, design, k, workplace) for k in range(len(design))]
    keep = Finished(folder / "shadows" / name, _digest(plan, design, workplace))
    jobs = [Job(f"{name}/shadow-{k}", train_shadow, (t,)) for k, t in enumerate(trainings)]
    progress, executor = workplace.progress, workplace.executor
    first: list[Any] = []
    if config.shadows.warm_start:
        first = executor.run(jobs[:1], keep=keep, progress=progress, title="first shadow")
        jobs = jobs[1:]
    errors = [*first, *executor.run(jobs, keep=keep, progress=progress, title="shadows")]
    return errors, [t.folders.existing()[-1] for t in trainings]


def _training(plan: TargetPlan, design: ShadowDesign, k: int, workplace: Workplace) -> ShadowTraining:
    config, cohort = workplace.config, workplace.cohort
    root = workplace.folder.path / "shadows" / shadow_name(plan)
    warm = config.shadows.warm_start and k > 0
    epochs = shadow_epochs(plan, config, k)
    training = config.training.model_copy(update={"epochs": epochs, "snapshot_every": epochs})
    inside = set(design.members(k))
    defence = config.defences
    judged = (*plan.design.members, *plan.design.non_members)
    return ShadowTraining(
        plan.model,
        training,
        cohort,
        cohort.rows_of(design.members(k)),
        cohort.rows_of([who for who in judged if who not in inside]),
        _streams(plan, config).child(str(k)),
        TrainingFolders(root / f"{k:04d}", root / f"{k:04d}" / "state"),
        replace(workplace.runtime, threads=1),
        TrainingFolders(root / "0000", root) if warm else None,
        pretrained(plan.model, workplace),
        config.privacy,
        defence,
        cohort.rows_of(plan.design.validation) if defence.stop_gap is not None else None,
        public_of(workplace) if defence.distillation is not None else None,
    )


def _digest(plan: TargetPlan, design: ShadowDesign, workplace: Workplace) -> str:
    """Return what changes whenever a shadow would: settings, seed, scans and who trains on them."""
    config = workplace.config
    parts = (
        config.seed,
        plan.model.model_dump_json(),
        config.training.model_dump_json(),
        config.privacy.model_dump_json() if config.privacy else "",
        _training_settings(config.defences),
        config.shadows.model_dump_json(),
        workplace.cohort.fingerprint,
        design.pool,
        design.inside.tobytes(),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _training_settings(defence: DefenceConfig) -> str:
    """Return the settings of ``defence`` that change weights: all but those of answers."""
    return defence.model_dump_json(exclude={"release"})


def _first_shadow(
    plan: TargetPlan,
    design: ShadowDesign,
    weights: Sequence[Path],
    attacks: Sequence[Attack],
    workplace: Workplace,
) -> SignalTable:
    """Return the first shadow on the participants it was drawn from, with all that ``attacks`` read."""
    cohort = workplace.cohort
    drawn = cohort.select(cohort.rows_of(design.pool))
    model = build_model(spec_of(plan.model), cohort.grid.shape, 0.0, 0)
    wanted = {signal for attack in attacks for signal in attack.requires}
    if any(signal.startswith(GRADIENT) for signal in wanted):
        wanted |= {name for name in OPTIONAL_SIGNALS if name.removeprefix(GRADIENT) in model.layers}
    name = f"{shadow_name(plan)}/first-shadow"
    folder = workplace.folder.path / "signals" / name.replace("/", "-")
    _extract(name, plan, weights, drawn, tuple(sorted(wanted)), folder, workplace)
    return open_table(
        folder,
        covariates=drawn.covariates,
        model=f"{shadow_name(plan)}-shadow-0",
        snapshots=("last",),
        membership=design.membership(drawn.covariates)[0],
    )


def _extract(  # noqa: PLR0913, PLR0917 - what, of which weights, on whom, where
    step: str,
    plan: TargetPlan,
    weights: Sequence[Path],
    cohort: Cohort,
    signals: tuple[str, ...],
    folder: Path,
    workplace: Workplace,
) -> None:
    """Extract ``signals`` of all ``weights`` in one pass over ``cohort``, unless that was done."""
    if workplace.folder.done(step):
        return
    shutil.rmtree(folder, ignore_errors=True)
    settings = workplace.config.signals
    extraction = Extraction(signals, settings.batch_size, workplace.runtime, settings.memory_bytes)
    model = build_model(spec_of(plan.model), cohort.grid.shape, 0.0, 0)
    workplace.runtime.place(model)
    extract(model, weights, cohort, extraction, folder=folder, progress=workplace.progress)
    workplace.folder.finish(step, shadows=len(weights))
