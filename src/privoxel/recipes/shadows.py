"""Reference models of a target: their training as jobs, the table of what they say, how like it they are.

Each is trained as its target is (``shadow_training``), as a job of the executor; its weights and the note
that it is finished stay in the run folder, so that none is trained twice. All models of a plan
(``shadow_plans``) are then read in one pass over the scans.
"""

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks.base import (
    Attack,
    ReferenceKind,
    needs_one_shadow,
    optional_signals,
    reference_kind,
)
from privoxel.cohort.base import Cohort
from privoxel.cohort.splits import Sessions, training_scans
from privoxel.errors import StoreError
from privoxel.executor import Finished, Job
from privoxel.models import build_model, spec_of
from privoxel.recipes.shadow_plans import ShadowPlan, shadow_plans, shadow_streams
from privoxel.recipes.shadow_training import ShadowTraining, train_shadow
from privoxel.recipes.target import TargetPlan, Workplace, given_by, pretrained, public_of
from privoxel.signals.extract import Extraction, extract, open_table, signal_file
from privoxel.signals.table import PREDICTION, LazyArray, SignalTable
from privoxel.training.job import TrainingFolders

__all__ = ["Fidelity", "References", "ShadowTraining", "Shadows", "observe_shadows", "train_shadow"]

logger = logging.getLogger(__name__)

UNLIKE = 1.5
"""Shadows that err more than this many times as much as the target, or the reverse, do not stand for it."""
FROM_TARGET = "shadows start from the target's weights (white-box)"


class Fidelity(NamedTuple):
    """Mean absolute errors (years) of reference models on their own scans and on scans they never saw."""

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

    def student_note(self, apart: float, non_members: float) -> str:
        """Return a line on students that lie ``apart`` years from their target where neither saw the scan.

        A student that is no closer to the target than the ages are (``non_members``, the target's MAE there)
        has learnt nothing of it that a shadow would not know.
        """
        text = (
            f"students={self.models}, {apart:.1f} years from the target on scans neither saw, "
            f"MAE {self.non_members:.1f} (target {non_members:.1f})"
        )
        return text if apart < non_members else f"{text}: UNLIKE the target, attacks with them may be weak"


class References(NamedTuple):
    """What the reference models of one plan say of the judged scans, and their errors."""

    table: SignalTable
    fidelity: Fidelity


@final
@dataclass(frozen=True)
class Shadows:
    """What attacks may know of reference models: by kind, all on the judged scans, and one shadow in depth.

    ``first`` holds the first shadow alone, on the participants it was drawn from, with every signal of the
    attacks that use one shadow.
    """

    by_kind: Mapping[ReferenceKind, References]
    first: SignalTable | None = None
    from_target: bool = False

    def models_for(self, attack: Attack) -> SignalTable | None:
        """Return what ``attack`` is given as ``Knowledge.models``."""
        kind = reference_kind(attack)
        if kind is None:
            return None
        return self.first if needs_one_shadow(attack) else self.by_kind[kind].table

    def notes_for(self, attack: Attack, target: SignalTable) -> tuple[str, ...]:
        """Return what is to be said of the models that ``attack`` reads, beside the target."""
        kind = reference_kind(attack)
        if kind is None:
            return ()
        table, fidelity = self.by_kind[kind]
        error, members = np.abs(target.error()), target.is_member()
        non_members = float(error[~members].mean())
        if kind is ReferenceKind.DISTILLED:
            row_of = {scan: row for row, scan in enumerate(table.scans)}  # of a population and canaries too
            said = table.select([row_of[scan] for scan in target.scans])
            models = range(len(table.models))
            apart = np.mean([np.abs(said.error(model=k) - target.error())[~members] for k in models])
            return (fidelity.student_note(float(apart), non_members),)
        note = fidelity.note(float(error[members].mean()), non_members)
        return (note, FROM_TARGET) if self.from_target else (note,)

    def on(self, sessions: Sessions, *, trained: bool) -> "Shadows":
        """Return the same models on the scans of the ``sessions`` that train, or on the others."""

        def kept(table: SignalTable) -> SignalTable:
            return table.select(training_scans(table.covariates, sessions) == trained)

        by_kind = {kind: one._replace(table=kept(one.table)) for kind, one in self.by_kind.items()}
        return replace(self, by_kind=by_kind, first=None if self.first is None else kept(self.first))


def observe_shadows(target: TargetPlan, attacks: Sequence[Attack], workplace: Workplace) -> Shadows:
    """Train the reference models that ``attacks`` on ``target`` need, or read them, and return their tables.

    Raises:
        ConfigError: if they cannot be drawn.
        StoreError: if they need the target's weights, and these are not in the run folder.
    """
    config = workplace.config
    plans = shadow_plans(target, attacks, config)
    by_kind, first = {}, None
    for kind, plan in plans.items():
        errors, weights = _train_all(plan, workplace)
        means = {key: float(np.mean([e[key] for e in errors])) for key in ("members", "non_members")}
        by_kind[kind] = References(_table(plan, weights, workplace), Fidelity(len(plan), **means))
        deep = [attack for attack in attacks if needs_one_shadow(attack)]
        if deep and kind is ReferenceKind.SHADOW:
            first = _first_shadow(plan, weights[:1], deep, workplace)
    return Shadows(by_kind, first, config.shadows.warm_start == "target")


def _table(plan: ShadowPlan, weights: Sequence[Path], workplace: Workplace) -> SignalTable:
    """Return the predictions of all models of ``plan`` on the observed scans, and who trained which."""
    judged = _observed(plan.target, workplace.cohort)
    folder = workplace.folder.path / "signals" / f"{plan.name}-shadows"
    _extract(f"{plan.name}/shadows", plan.target, weights, judged, (PREDICTION,), folder, workplace)
    predictions = np.load(folder / signal_file(PREDICTION))  # 1 × models × scans
    return SignalTable(
        judged.covariates,
        tuple(f"{plan.name}-shadow-{k}" for k in range(len(plan))),
        ("last",),
        plan.design.membership(judged.covariates),
        {PREDICTION: LazyArray(predictions[0][:, None])},
    )


def _train_all(plan: ShadowPlan, workplace: Workplace) -> tuple[list[Mapping[str, float]], list[Path]]:
    taught = _lessons(plan, workplace) if plan.kind is ReferenceKind.DISTILLED else None
    trainings = [_training(plan, k, workplace, taught) for k in range(len(plan))]
    keep = Finished(workplace.folder.path / "shadows" / plan.name, _digest(plan, workplace, taught))
    jobs = [Job(f"{plan.name}/shadow-{k}", train_shadow, (t,)) for k, t in enumerate(trainings)]
    train = partial(
        workplace.executor.run,
        keep=keep,
        progress=workplace.progress,
        expected=workplace.expected.get(plan.name),
    )
    first: list[Any] = []
    if trainings[-1].warm is not None:
        first, jobs = train(jobs[:1], title="first shadow"), jobs[1:]
    errors = [*first, *train(jobs, title=str(plan.kind))]
    return errors, [t.folders.existing()[-1] for t in trainings]


def _training(plan: ShadowPlan, k: int, workplace: Workplace, taught: FloatArray | None) -> ShadowTraining:
    config, cohort = workplace.config, workplace.cohort
    root = workplace.folder.path / "shadows" / plan.name
    epochs = {"epochs": plan.epochs[k], "snapshot_every": plan.epochs[k]}
    inside = set(plan.design.members(k))
    design = plan.target.design
    training = ShadowTraining(
        plan.target.model,
        config.training.model_copy(update=epochs),
        cohort,
        workplace.training_rows(plan.design.members(k)),
        workplace.training_rows([who for who in (*design.members, *design.non_members) if who not in inside]),
        shadow_streams(plan.name, config).child(str(k)),
        TrainingFolders(root / f"{k:04d}", root / f"{k:04d}" / "state"),
        replace(workplace.shadow_runtime or workplace.runtime, threads=1),
        _start(plan, workplace),
        taught,
    )
    if plan.kind is ReferenceKind.DISTILLED:
        return training
    defence = config.defences
    return replace(
        training,
        warm=TrainingFolders(root / "0000", root) if config.shadows.warm_start is True and k > 0 else None,
        privacy=config.privacy,
        defence=defence,
        validation=cohort.rows_of(design.validation) if defence.stop_gap is not None else None,
        public=public_of(workplace) if defence.distillation is not None else None,
    )


def _start(plan: ShadowPlan, workplace: Workplace) -> Path | None:
    """Return the weights that the models of ``plan`` begin with, None for random ones."""
    if plan.kind is ReferenceKind.DISTILLED:
        return None
    if workplace.config.shadows.warm_start == "target":
        return _target_weights(plan.target, workplace)
    return pretrained(plan.target.model, workplace)


def _target_weights(target: TargetPlan, workplace: Workplace) -> Path:
    folder = workplace.folder.path / "snapshots" / target.name
    snapshots = TrainingFolders(folder, folder).existing()
    if not snapshots:
        raise StoreError(
            f"Reference models of {target.name} need its weights, got none in {folder}. Train it first."
        )
    return snapshots[-1]


def _lessons(plan: ShadowPlan, workplace: Workplace) -> FloatArray:
    """Return the target's predictions (years) on the scans that teach its students, kept in the folder."""
    cohort, target = workplace.cohort, plan.target
    pool = cohort.select(workplace.training_rows(plan.design.pool))
    folder = workplace.folder.path / "signals" / f"{plan.name}-lessons"
    weights = _target_weights(target, workplace)
    _extract(f"{plan.name}/lessons", target, [weights], pool, (PREDICTION,), folder, workplace)
    lessons: FloatArray = np.load(folder / signal_file(PREDICTION))[0, 0].astype(np.float64)
    return lessons


def _digest(plan: ShadowPlan, workplace: Workplace, taught: FloatArray | None) -> str:
    """Return what changes whenever a model would: settings, seed, scans, who trains on which, the lessons."""
    config = workplace.config
    is_bound = config.shadows.warm_start == "target"
    parts = (
        config.seed,
        plan.target.trained_on if is_bound else None,
        plan.target.model.model_dump_json(),
        config.training.model_dump_json(),
        config.privacy.model_dump_json() if config.privacy else None,
        config.defences.model_dump_json(exclude={"release"}),  # answers do not change weights
        config.shadows.model_dump_json(),
        config.split.train_sessions,
        workplace.cohort.fingerprint,
        plan.design.pool,
        plan.design.inside.tobytes(),
        None if taught is None else taught.tobytes(),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _first_shadow(
    plan: ShadowPlan, weights: Sequence[Path], attacks: Sequence[Attack], workplace: Workplace
) -> SignalTable:
    """Return the first shadow on the participants it was drawn from, with all that ``attacks`` read."""
    cohort, target = workplace.cohort, plan.target
    drawn = cohort.select(cohort.rows_of(plan.design.pool))
    model = build_model(spec_of(target.model), cohort.grid.shape, 0.0, 0)
    wanted = {s for a in attacks for s in a.requires | given_by(model, optional_signals(a))}
    name = f"{plan.name}/first-shadow"
    folder = workplace.folder.path / "signals" / name.replace("/", "-")
    _extract(name, target, weights, drawn, tuple(sorted(wanted)), folder, workplace)
    return open_table(
        folder,
        covariates=drawn.covariates,
        model=f"{plan.name}-shadow-0",
        snapshots=("last",),
        membership=plan.design.membership(drawn.covariates)[0],
    )


def _observed(target: TargetPlan, cohort: Cohort) -> Cohort:
    return cohort.select(cohort.rows_of(target.design.observed))


def _extract(  # noqa: PLR0913, PLR0917 - what, of which weights, on whom, where
    step: str,
    target: TargetPlan,
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
    model = build_model(spec_of(target.model), cohort.grid.shape, 0.0, 0)
    workplace.runtime.place(model)
    extract(model, weights, cohort, extraction, folder=folder, progress=workplace.progress)
    workplace.folder.finish(step, shadows=len(weights))
