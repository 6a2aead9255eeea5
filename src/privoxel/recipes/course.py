"""What attacks read besides scans and last weights: copies of the scans, and the course of the training.

It costs more than other signals, so that it is made only where an attack that reads it is named: six
predictions a scan for each kind of copy, one for every kept snapshot, or one backward pass for every interval
between two. Each is a step of its own in the run folder, and not repeated.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from privoxel.attacks.base import Attack, Course, course_of
from privoxel.cohort.base import Cohort
from privoxel.config import RunConfig
from privoxel.recipes.target import Observed, TargetPlan, Workplace
from privoxel.seeding import Streams
from privoxel.signals.answers import scans_at_once
from privoxel.signals.augmentation import STEPS, Augmentation, Copies, extract_augmented
from privoxel.signals.extract import Extraction, Model, extract, open_table, signal_file
from privoxel.signals.movement import Intervals, extract_movement
from privoxel.signals.table import AUGMENTED, PREDICTION, PROJECTION, STEP, LazyArray, SignalTable


def with_courses(
    observed: Observed, attacks: Sequence[Attack], workplace: Workplace, *, network: Model | None = None
) -> Observed:
    """Return ``observed`` with everything that ``attacks`` read besides scans and last weights.

    ``network`` is the model behind it where that is not one of privoxel's own.
    """
    own = network or observed.model
    if own is None or not (copies_for(attacks) or reads_course(attacks)):
        return observed
    model = deepcopy(own)  # its weights change here
    table = with_copies(observed.table, model, attacks, observed.plan.name, workplace)
    courses: dict[Course, SignalTable] = {}
    if Course.KEPT in reads_course(attacks):
        courses[Course.KEPT] = _over_snapshots(observed, model, workplace)
    if Course.INTERVALS in reads_course(attacks):
        courses[Course.INTERVALS] = _over_intervals(observed, model, attacks, workplace)
    return observed._replace(table=table, courses=courses)


def along(courses: Mapping[Course, SignalTable], attack: Attack, table: SignalTable) -> SignalTable:
    """Return what ``attack`` reads instead of ``table``: the same scans, over the course that it needs."""
    course = course_of(attack)
    if course is Course.LAST:
        return table
    whole = courses[course]
    row_of = {scan: row for row, scan in enumerate(whole.scans)}
    return replace(whole.select([row_of[scan] for scan in table.scans]), membership=table.membership)


def copies_for(attacks: Sequence[Attack]) -> tuple[Copies, ...]:
    """Return the kinds of copies that ``attacks`` read."""
    wanted = {signal for attack in attacks for signal in attack.requires}
    return tuple(kind for kind in Copies if f"{AUGMENTED}{kind}" in wanted)


def with_copies(
    table: SignalTable, model: Model, attacks: Sequence[Attack], name: str, workplace: Workplace
) -> SignalTable:
    """Return ``table`` with the predictions of ``model``, as it is, on the copies that ``attacks`` read.

    ``name`` is that of the target's folder.
    """
    kinds = copies_for(attacks)
    if not kinds:
        return table
    folder, step = _place(name, "copies", workplace)
    if not workplace.folder.done(step):
        settings, config = workplace.config.signals, workplace.config
        size = settings.batch_size or scans_at_once(
            4 * int(np.prod(workplace.cohort.grid.shape)), settings.memory_bytes
        )
        seed = Streams(config.seed).seed("copies")
        asked = Augmentation(kinds, seed=seed, batch_size=size, runtime=workplace.runtime)
        scans = _cohort_of(table, workplace)
        extract_augmented(model, (), scans, asked, folder=folder, progress=workplace.progress)
        workplace.folder.finish(step, kinds=[str(kind) for kind in kinds])
    names = [f"{AUGMENTED}{kind}" for kind in kinds]
    return replace(table, values={**table.values, **{n: LazyArray(folder / signal_file(n)) for n in names}})


def course_faults(attacks: Sequence[Attack], plan: TargetPlan, config: RunConfig) -> list[str]:
    """Return why the training of ``plan`` does not give what ``attacks`` read of its course."""
    faults = []
    along_it = [attack.name for attack in attacks if course_of(attack) is not Course.LAST]
    if along_it and _snapshots_of(plan, config) < 2:
        faults.append(
            f"Attacks along the training ({', '.join(along_it)}) need at least 2 snapshots of {plan.name}, "
            "got 1. Set [training] snapshot_every below the number of epochs."
        )
    of_steps = [attack.name for attack in attacks if needs(attack, STEP)]
    if of_steps and not _is_plain_sgd(config):
        faults.append(
            f"Attack {', '.join(of_steps)} needs movements that are mean gradients, got those of another "
            "training. Set [training] optimiser = 'sgd' without [privacy] and defences that change weights, "
            "or leave it out."
        )
    return faults


class Passes(NamedTuple):
    """How often a scan goes through a model: to be predicted, and to have its gradient taken."""

    predictions: int
    gradients: int


def course_passes(attacks: Sequence[Attack], plan: TargetPlan, config: RunConfig) -> Passes:
    """Return the passes of one scan that make the further signals which ``attacks`` on ``plan`` read."""
    snapshots, read = _snapshots_of(plan, config), reads_course(attacks)
    predictions = len(STEPS) * len(copies_for(attacks)) + snapshots * (Course.KEPT in read)
    return Passes(predictions, (snapshots - 1) * (Course.INTERVALS in read))


def course_bytes(attacks: Sequence[Attack], plan: TargetPlan, config: RunConfig, tensors: int) -> int:
    """Return the bytes on disk that the further signals of one scan take; ``tensors`` are the model's."""
    snapshots, read = _snapshots_of(plan, config), reads_course(attacks)
    size = 4 * len(STEPS) * len(copies_for(attacks))
    size += 4 * snapshots * (Course.KEPT in read)
    if Course.INTERVALS in read:
        projected = 2 * (2 + 4) * _projection(attacks)  # halves and a row of single precision, kept twice
        size += (snapshots - 1) * (2 * 4 * (2 + tensors) + projected)
    return size


def reads_course(attacks: Sequence[Attack]) -> set[Course]:
    """Return which courses of the training ``attacks`` read."""
    return {course_of(attack) for attack in attacks} - {Course.LAST}


def _over_snapshots(observed: Observed, model: Model, workplace: Workplace) -> SignalTable:
    """Return the predictions of every kept snapshot."""
    folder, step = _place(observed.plan.name, "kept", workplace)
    cohort, settings = _cohort_of(observed.table, workplace), workplace.config.signals
    if not workplace.folder.done(step):
        asked = Extraction((PREDICTION,), settings.batch_size, workplace.runtime, settings.memory_bytes)
        extract(model, observed.snapshots, cohort, asked, folder=folder, progress=workplace.progress)
        workplace.folder.finish(step, snapshots=len(observed.snapshots))
    return _opened(folder, observed, cohort, observed.snapshots)


def _over_intervals(
    observed: Observed, model: Model, attacks: Sequence[Attack], workplace: Workplace
) -> SignalTable:
    """Return the signals of every interval between kept snapshots."""
    folder, step = _place(observed.plan.name, "intervals", workplace)
    cohort, settings = _cohort_of(observed.table, workplace), workplace.config.signals
    if not workplace.folder.done(step):
        factors = gradients_per_move(observed, workplace) if any(needs(a, STEP) for a in attacks) else ()
        asked = Intervals(
            _projection(attacks), factors, settings.batch_size, workplace.runtime, settings.memory_bytes
        )
        extract_movement(model, observed.snapshots, cohort, asked, folder=folder, progress=workplace.progress)
        workplace.folder.finish(step, intervals=len(observed.snapshots) - 1)
    return _opened(folder, observed, cohort, observed.snapshots[:-1])


def gradients_per_move(observed: Observed, workplace: Workplace) -> tuple[float, ...]:
    """Return for each interval what turns its movement into minus a mean gradient, years² per unit of weight.

    Loss scale / (learning rate · updates): exact for plain SGD but for weight decay, smaller last batches and
    gradients that change within the interval.
    """
    plan, training = observed.plan, workplace.config.training
    rows = workplace.training_rows(plan.trained_on)
    scale = float(np.var(workplace.cohort.covariates.age[rows])) if plan.model.head == "scaled" else 1.0
    updates = math.ceil(len(rows) / training.batch_size)
    epochs = [int(path.stem.rpartition("-")[2]) for path in observed.snapshots]
    return tuple(scale / (training.learning_rate * updates * (b - a)) for a, b in pairwise(epochs))


def _opened(folder: Path, observed: Observed, cohort: Cohort, snapshots: Sequence[Path]) -> SignalTable:
    return open_table(
        folder,
        covariates=cohort.covariates,
        model=observed.plan.model.name,
        snapshots=[path.stem for path in snapshots],
        membership=observed.table.membership[0],
    )


def _place(name: str, part: str, workplace: Workplace) -> tuple[Path, str]:
    """Return the folder of a part of a target's signals, emptied unless finished, and its step's name."""
    folder, step = workplace.folder.path / "signals" / name / part, f"{name}/{part}"
    if not workplace.folder.done(step):
        shutil.rmtree(folder, ignore_errors=True)
    return folder, step


def _cohort_of(table: SignalTable, workplace: Workplace) -> Cohort:
    row_of = {scan: row for row, scan in enumerate(workplace.cohort.covariates.scans)}
    return workplace.cohort.select([row_of[scan] for scan in table.scans])


def needs(attack: Attack, kind: str) -> bool:
    """Return whether ``attack`` requires a signal of ``kind``, such as ``step:``."""
    return any(signal.startswith(kind) for signal in attack.requires)


def _projection(attacks: Sequence[Attack]) -> int:
    """Return the number of projections that attacks on intervals read; 0 where they read none."""
    named = (s for a in attacks if course_of(a) is Course.INTERVALS for s in a.requires)
    return max((int(s.removeprefix(PROJECTION)) for s in named if s.startswith(PROJECTION)), default=0)


def _snapshots_of(plan: TargetPlan, config: RunConfig) -> int:
    distillation = config.defences.distillation
    epochs = plan.model.epochs or config.training.epochs
    if distillation is not None and distillation.epochs is not None:
        epochs = distillation.epochs
    return math.ceil(epochs / config.training.snapshot_every)


def _is_plain_sgd(config: RunConfig) -> bool:
    defence = config.defences
    others = (defence.sparsity, defence.average_last, defence.distillation, config.privacy)
    return config.training.optimiser == "sgd" and defence.keep_unique is None and not any(others)
