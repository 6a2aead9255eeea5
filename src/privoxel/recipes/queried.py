"""An audit of a model that can be asked: scans or features in, ages out, nothing seen of its inside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.attacks import ON_COPIES
from privoxel.attacks.base import Attack
from privoxel.cohort.base import Cohort
from privoxel.cohort.memberships import Grouped
from privoxel.errors import ModelError, Problem
from privoxel.models.predictor import Predictor
from privoxel.recipes.brought import RefusedScansError, given_table
from privoxel.recipes.brought_settings import Brought
from privoxel.recipes.predictions import black_box_attacks
from privoxel.recipes.target import Observed, TargetPlan, Workplace
from privoxel.signals.answers import Inputs, KeptAnswers, ask, scans_at_once
from privoxel.signals.augmentation import Copies
from privoxel.signals.table import AUGMENTED, PREDICTION

PEOPLE_AT_ONCE = 4096
LARGE_TABLE = 20_000
"""From this many scans on, a table's answers are not kept for resuming: asking again is as fast."""


def brought_predictor(
    predictor: Predictor, grouped: Grouped, name: str, *, stability: bool = False
) -> Brought:
    """Return what a model that can be asked gives an audit of scans.

    Args:
        predictor: the model.
        grouped: the scans and who of their participants is a member.
        name: how files and report call the model.
        stability: ask about six moved copies of each scan too, for the attacks that need no age.

    Raises:
        ModelError: if the model's input has another shape than the cohort's volumes.
    """
    _check_shape(predictor, (1, *grouped.cohort.grid.shape), "scans of the cohort")
    kinds = (Copies.SHIFT,) if stability else ()

    def inputs_of(cohort: Cohort) -> tuple[Inputs, int]:
        return cohort.batch, 4 * int(np.prod(cohort.grid.shape))

    shifted = {n: a for n, a in ON_COPIES.items() if a.requires <= {PREDICTION, f"{AUGMENTED}{Copies.SHIFT}"}}
    attacks = {**black_box_attacks(), **(shifted if stability else {})}
    return Brought(
        kind="model",
        name=name,
        cohort=grouped.cohort,
        states=states_of(grouped),
        attacks=attacks,
        observe=Asking(predictor, inputs_of, kinds),
        facts={**predictor.facts, "stability": stability},
        notes=grouped.notes,
    )


def states_of(grouped: Grouped) -> dict[str, int]:
    """Return the state of each participant by name."""
    return dict(zip(grouped.cohort.covariates.participants, grouped.states.tolist(), strict=True))


def _check_shape(predictor: Predictor, entry: tuple[int, ...], what: str) -> None:
    """Raise ``ModelError`` if the model states an input that ``entry`` (one input's shape) does not fit."""
    stated = predictor.input_shape
    if stated is None:
        return
    fits = len(stated) == 1 + len(entry) and all(
        size is None or size == own for size, own in zip(stated[1:], entry, strict=True)
    )
    if not fits:
        shown = " × ".join("any" if size is None else str(size) for size in stated)
        raise ModelError(
            f"The model needs inputs of shape {shown} (batch, channel, x, y, z), got {what} of shape "
            f"{' × '.join(map(str, entry))}. Choose --resolution so that the grids agree, or wrap the model "
            "in a Python function that crops and pads."
        )


@final
@dataclass(frozen=True)
class Asking:
    """Asks the model about every judged scan; of scans, answers are kept as they come."""

    predictor: Predictor
    inputs_of: Callable[[Cohort], tuple[Inputs, int]]
    kinds: tuple[Copies, ...] = ()

    def __call__(self, plan: TargetPlan, attacks: Sequence[Attack], workplace: Workplace) -> Observed:
        """Return the answers as a target.

        Raises:
            RefusedScansError: if some scans have no answer.
            ModelError: if the model cannot be asked.
        """
        cohort, settings = workplace.cohort, workplace.config.signals
        inputs, volume_bytes = self.inputs_of(cohort)
        size = settings.batch_size or (
            scans_at_once(volume_bytes, settings.memory_bytes) if volume_bytes else PEOPLE_AT_ONCE
        )
        needed = any(name.startswith(AUGMENTED) for attack in attacks for name in attack.requires)
        answers = ask(
            self.predictor,
            inputs,
            self._kept(plan, workplace, keyed=bool(volume_bytes) or len(cohort) < LARGE_TABLE),
            batch_size=size,
            kinds=self.kinds if needed else (),
            progress=workplace.progress,
        )
        if answers.problems:
            _refuse(cohort, answers.problems)
        return given_table(plan, workplace, {PREDICTION: answers.prediction, **answers.copies})

    def _kept(self, plan: TargetPlan, workplace: Workplace, *, keyed: bool) -> KeptAnswers:
        scans, folder = workplace.cohort.covariates.scans, workplace.folder
        keys = [folder.hashed(str(scan)) for scan in scans] if keyed else list(map(str, range(len(scans))))
        return KeptAnswers(folder.path / "state" / plan.name / "answers.txt", keys, is_kept=keyed)


def _refuse(cohort: Cohort, problems: Mapping[int, str]) -> None:
    scans = cohort.covariates.scans
    found = [
        Problem(str(scans[row]), what, "Mend the scan, or leave it out", scans[row].participant)
        for row, what in problems.items()
    ]
    raise RefusedScansError("The model has no answer for some scans", found, list(problems))
