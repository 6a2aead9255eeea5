"""One target: a model trained on the members of one design, and the signals it gives on everyone judged."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, final

import numpy as np
from torch import nn

from privoxel.arrays import IntArray
from privoxel.attacks.base import Attack, Course, course_of, optional_signals
from privoxel.cohort.base import Cohort
from privoxel.cohort.splits import Design, membership_of, training_rows
from privoxel.config import ModelConfig, RunConfig
from privoxel.errors import CohortError, ConfigError
from privoxel.executor import Executor
from privoxel.models import build_model, spec_of
from privoxel.models.base import AuditableModel
from privoxel.progress import Progress
from privoxel.recipes.cohorts import public_brains
from privoxel.seeding import Streams
from privoxel.signals.extract import Extraction, extract, open_table
from privoxel.signals.table import AUGMENTED, GRADIENT, GRADIENT_NORMS, PREDICTION, SignalTable
from privoxel.store import RunFolder
from privoxel.training.curve import Epoch
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.loop import Trained, load_weights, train
from privoxel.training.released import train_released
from privoxel.training.runtime import Runtime


@final
@dataclass(frozen=True)
class TargetPlan:
    """Which model is trained on whom.

    ``name`` names its folders and table rows; ``number`` counts the designs, from 1, and ``training`` the
    trainings of the same design. A null target (``is_null``) is trained on the design's ``others``: it never
    saw the members that the attacks look for.
    """

    name: str
    model: ModelConfig
    design: Design
    number: int = 1
    is_null: bool = False
    training: int = 1

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Participants whose scans train the model: with its members the canaries that are inserted."""
        design = self.design
        return design.others if self.is_null else (*design.members, *design.inserted)


@final
@dataclass(frozen=True)
class Workplace:
    """What all targets of a run share.

    Reference models are jobs of ``executor`` that compute on ``shadow_runtime``, by default as the target
    does; ``expected`` are the seconds that one may take, by the name of its plan.
    """

    config: RunConfig
    cohort: Cohort
    folder: RunFolder
    runtime: Runtime
    progress: Progress
    workers: int = 1
    executor: Executor = field(default_factory=Executor)
    shadow_runtime: Runtime | None = None
    expected: Mapping[str, float] = field(default_factory=dict)

    @property
    def people(self) -> dict[str, int]:
        """A code for every participant, the same for all targets."""
        return {name: code for code, name in enumerate(self.cohort.covariates.participants)}

    def training_rows(self, participants: Sequence[str]) -> IntArray:
        """Return the rows of the scans that train a model on ``participants``."""
        return training_rows(self.cohort, participants, self.config.split.train_sessions)


class Observed(NamedTuple):
    """A target: what it is, how training went, and its signals on members and non-members.

    ``model`` is None where only its answers are known; ``train_age`` is the members' mean age (years);
    ``defence`` says what was done against attacks; ``snapshots`` are the kept weights, oldest first, and
    ``courses`` what they give the attacks that read more of them than the last. ``references`` are reference
    models that came with it. ``population`` and ``canaries`` hold the same signals on those of the design,
    None where there are none.
    """

    plan: TargetPlan
    model: AuditableModel | None
    curve: tuple[Epoch, ...]
    train_age: float
    table: SignalTable
    defence: Mapping[str, str] = MappingProxyType({})
    snapshots: tuple[Path, ...] = ()
    courses: Mapping[Course, SignalTable] = MappingProxyType({})
    references: SignalTable | None = None
    population: SignalTable | None = None
    canaries: SignalTable | None = None


def observe(plan: TargetPlan, attacks: Sequence[Attack], workplace: Workplace) -> Observed:
    """Train the target of ``plan`` (or load it), and extract the signals that ``attacks`` read.

    The table holds the scans of the design's members and non-members, in cohort order.
    """
    cohort = workplace.cohort
    train_rows = workplace.training_rows(plan.trained_on)
    train_age = float(cohort.covariates.age[train_rows].mean())
    streams = Streams(workplace.config.seed).child(plan.name)
    start = pretrained(plan.model, workplace)
    model = started(plan.model, cohort, train_age, streams.seed("initialisation"), start)
    curve, snapshots, defence = _trained(plan, model, train_rows, streams, workplace)

    everyone = signals_of(plan, model, snapshots[-1], attacks, workplace)
    design = plan.design
    return Observed(
        plan,
        model,
        curve,
        train_age,
        part_of(everyone, design.judged),
        defence,
        snapshots,
        population=part_of(everyone, design.population, ()) if design.population else None,
        canaries=(
            part_of(everyone, design.canaries, design.inserted)
            if design.canaries and not plan.is_null
            else None
        ),
    )


def part_of(
    table: SignalTable, participants: Sequence[str], members: Sequence[str] | None = None
) -> SignalTable:
    """Return the scans of ``participants``; with ``members`` these are members and the rest are not."""
    wanted = set(participants)
    part = table.select(np.array([scan.participant in wanted for scan in table.scans], dtype=np.bool_))
    if members is None:
        return part
    inside = set(members)
    return part.with_membership([scan.participant in inside for scan in part.scans])


def signals_of(
    plan: TargetPlan,
    model: AuditableModel,
    weights: Path,
    attacks: Sequence[Attack],
    workplace: Workplace,
) -> SignalTable:
    """Return what ``attacks`` read of ``model`` with ``weights`` on everyone whom the plan observes."""
    cohort, folder, design = workplace.cohort, workplace.folder, plan.design
    workplace.runtime.place(model)
    load_weights(model, weights)
    model.eval()
    judged = cohort.select(cohort.rows_of(design.observed))
    signals_folder = folder.path / "signals" / plan.name
    step = f"{plan.name}/signals"
    if not folder.done(step):
        shutil.rmtree(signals_folder, ignore_errors=True)
        wanted = needed_signals(model, attacks, workplace.config.signals.extra)
        settings = workplace.config.signals
        extraction = Extraction(
            wanted,
            settings.batch_size,
            workplace.runtime,
            settings.memory_bytes,
            bfloat16=settings.precision == "bfloat16",
        )
        extracted = extract(
            model, (weights,), judged, extraction, folder=signals_folder, progress=workplace.progress
        )
        folder.finish(
            step,
            tensors=list(extracted.tensors),
            clipped=extracted.clipped,
            batch_size=extracted.batch_size,
            bytes_per_scan=extracted.bytes_per_scan,
            fallbacks=extracted.fallbacks,
        )
    return open_table(
        signals_folder,
        covariates=judged.covariates,
        model=plan.model.name,
        snapshots=[weights.stem],
        membership=membership_of(design, judged.covariates),
        tensors=tuple(folder.manifest["steps"][step]["tensors"]),
    )


def started(
    settings: ModelConfig, cohort: Cohort, mean_age: float, seed: int, start: Path | None
) -> AuditableModel:
    """Return a model for ``cohort`` before training: with initial weights, or those of ``start``.

    With ``start`` the constants of the scaled head are those of what it was trained on.
    """
    model = build_model(spec_of(settings), cohort.grid.shape, mean_age, seed)
    if start is not None:
        load_weights(model, start)
    return model


def pretrained(settings: ModelConfig, workplace: Workplace) -> Path | None:
    """Return the weights that every training of a model starts from, or None if there are none.

    They are trained on public brains unless that was done before; anyone could, an adversary too.
    """
    config, folder = workplace.config, workplace.folder
    pretraining = config.defences.pretraining
    if pretraining is None:
        return None
    name = f"{settings.name}-pretrained"
    folders = TrainingFolders(folder.path / "snapshots" / name, folder.path / "state" / name)
    if not folder.done(f"{name}/training"):
        brains, streams = public_of(workplace), Streams(config.seed).child(name)
        rows, ages = np.arange(len(brains)), brains.covariates.age
        model = started(settings, brains, float(ages.mean()), streams.seed("initialisation"), None)
        changes: dict[str, float] = {"epochs": pretraining.epochs, "snapshot_every": pretraining.epochs}
        if pretraining.learning_rate is not None:
            changes["learning_rate"] = pretraining.learning_rate
        training = config.training.model_copy(update=changes)
        scale = float(np.var(ages)) if settings.head == "scaled" else 1.0
        job = TrainingJob(training, streams, folders, workplace.runtime, workplace.progress)
        trained = train(model, TrainingSet(brains, rows, rows[:0], loss_scale=scale), job)
        curve = [list(point) for point in trained.curve]
        folder.finish(f"{name}/training", curve=curve, seconds=round(trained.seconds, 2))
    return folders.existing()[-1]


def public_of(workplace: Workplace) -> Cohort:
    """Return the public brains of a run.

    Raises:
        ConfigError: if they are not on the cohort's grid.
    """
    brains = public_brains(workplace.config, workplace.progress)
    if brains.grid.shape != workplace.cohort.grid.shape:
        raise ConfigError(
            f"Public brains need the cohort's grid, got {brains.grid.shape} beside "
            f"{workplace.cohort.grid.shape}. Correct [cohort] resolution_mm, or do without public brains."
        )
    return brains


def needed_signals(model: AuditableModel, attacks: Sequence[Attack], extra: Sequence[str]) -> tuple[str, ...]:
    """Return every signal of the scans and last weights that the attacks read, and ``extra``.

    Those that an attack reads besides what it requires are among them wherever the model has their layer.
    """
    wanted = {PREDICTION, GRADIENT_NORMS, *extra}
    for attack in attacks:
        if course_of(attack) is Course.LAST:
            wanted |= attack.requires | given_by(model, optional_signals(attack))
    return tuple(sorted(name for name in wanted if not name.startswith(AUGMENTED)))


def given_by(model: AuditableModel, optional: frozenset[str]) -> set[str]:
    """Return those of the gradients ``optional`` whose layer ``model`` has."""
    return {name for name in optional if name.removeprefix(GRADIENT) in model.layers}


def _trained(
    plan: TargetPlan, model: nn.Module, train_rows: IntArray, streams: Streams, workplace: Workplace
) -> tuple[tuple[Epoch, ...], tuple[Path, ...], Mapping[str, str]]:
    config, cohort, folder = workplace.config, workplace.cohort, workplace.folder
    folders = TrainingFolders(folder.path / "snapshots" / plan.name, folder.path / "state" / plan.name)
    step = f"{plan.name}/training"
    if folder.done(step):
        facts = folder.manifest["steps"][step]
        return tuple(Epoch(*point) for point in facts["curve"]), folders.existing(), _done_against(facts)
    ages = cohort.covariates.age[train_rows]
    if np.ptp(ages) == 0:
        raise CohortError(
            f"Target {plan.name} needs members of different ages, got {len(ages)} of the same age. "
            "Choose another cohort or more members."
        )
    training_set = TrainingSet(
        cohort,
        train_rows,
        workplace.training_rows(plan.design.validation),
        loss_scale=float(np.var(ages)) if plan.model.head == "scaled" else 1.0,
    )
    settings = config.training
    if plan.model.epochs is not None:
        settings = settings.model_copy(update={"epochs": plan.model.epochs})
    job = TrainingJob(
        settings,
        streams,
        folders,
        workplace.runtime,
        workplace.progress,
        config.privacy,
        config.defences,
    )
    trained = _released(plan, model, training_set, job, workplace)
    facts = {"privacy": trained.privacy, "defence": trained.defence}
    folder.finish(
        step, curve=[list(point) for point in trained.curve], seconds=round(trained.seconds, 2), **facts
    )
    return trained.curve, trained.snapshots, _done_against(facts)


def _done_against(facts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return what training did against attacks: its defences, and the privacy that it spent."""
    privacy = {f"privacy_{name}": value for name, value in facts.get("privacy", {}).items()}
    return {**facts.get("defence", {}), **privacy}


def _released(
    plan: TargetPlan, model: nn.Module, training_set: TrainingSet, job: TrainingJob, workplace: Workplace
) -> Trained:
    public = public_of(workplace) if job.defence.distillation is not None else None
    start = pretrained(plan.model, workplace)
    return train_released(
        model,
        training_set,
        job,
        public=public,
        build=lambda mean_age, seed: started(plan.model, workplace.cohort, mean_age, seed, start),
    )


def with_tail(attack: Attack, model: AuditableModel | None) -> Attack:
    """Return ``attack`` with a copy of the target's later layers if it is the one that builds on them."""
    if attack.name != "activation" or model is None:
        return attack
    return replace(attack, tail=model.tail("conv5"))  # type: ignore[type-var]
