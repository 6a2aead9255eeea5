"""Centring before an attack: every model's predictions are moved so that its own members err around zero.

Each network is off for its members by something of its own, often a year: to compare target and references,
read each from where it puts its members. The prediction of every scan becomes prediction − c(age), with c the
centre (``centring.py``) of the residuals of scans that the model was trained on: their median, with ``curve``
a smooth curve of age on top (tube-centring). The target's c is that of the leaked members; a leaked scan's
that of the members of other folds. A reference's is that of the scans it was trained on; one that was trained
on none of them (of a population) gets the centre of the scans it has not seen, plus what lies
between the leaked members' centre and the leaked non-members' under the target.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, final

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.attacks.base import (
    Attack,
    Course,
    Knowledge,
    ReferenceKind,
    Scored,
    ThreatModel,
    course_of,
    fewest_references,
    finite_errors,
    leaked_table,
    needs_models,
    needs_one_shadow,
    reference_kind,
)
from privoxel.attacks.centring import centred, fit_centre
from privoxel.attacks.folds import leaked_folds
from privoxel.attacks.references import references_of
from privoxel.signals.table import PREDICTION, STATED_SD, LazyArray, Membership, SignalTable

READ_CENTRED = frozenset({PREDICTION, STATED_SD})
"""Signals of attacks that have centred forms."""


@final
@dataclass(frozen=True)
class Recentred:
    """The scores and threshold of ``attack`` on predictions centred on the members of each model.

    For attacks that read the prediction, and no other signal that depends on it.
    """

    attack: Attack
    curve: bool = False

    needs_leaked = True

    @property
    def name(self) -> str:
        """Key in configurations and files."""
        return f"{'tube-' if self.curve else ''}centred-{self.attack.name}"

    @property
    def title(self) -> str:
        """What a reader sees."""
        return f"{self.attack.title}, around the members' {'age curve' if self.curve else 'median'}"

    @property
    def source(self) -> str:
        """Paper of the attack; the centring is ours."""
        return f"{self.attack.source}; on centred errors"

    @property
    def threat_model(self) -> ThreatModel:
        """What the adversary holds."""
        return self.attack.threat_model

    @property
    def requires(self) -> frozenset[str]:
        """Signals that the tables must hold."""
        return self.attack.requires | {PREDICTION}

    @property
    def needs_models(self) -> bool:
        """Whether reference models are needed."""
        return needs_models(self.attack)

    @property
    def reference_kind(self) -> ReferenceKind | None:
        """What the reference models were taught."""
        return reference_kind(self.attack)

    @property
    def one_shadow(self) -> bool:
        """Whether one shadow is read on the scans it was drawn from."""
        return needs_one_shadow(self.attack)

    @property
    def course(self) -> Course:
        """Which weights of the training are read."""
        return course_of(self.attack)

    @property
    def fewest(self) -> tuple[int, int]:
        """References that every scan needs, IN and OUT."""
        return fewest_references(self.attack)

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return the scores of ``attack`` on centred predictions.

        Raises:
            SignalError: if a signal, leaked participants, references or what ``attack`` needs besides are
                missing, or an error is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        for table in (leaked, target):
            finite_errors(self, table)
        centring = _Centring(leaked, leaked_folds(leaked, rng), self.curve)
        models = references_of(self, target, knowledge).table if self.needs_models else None
        population = knowledge.population
        known = replace(
            knowledge,
            leaked=centring.leaked_scans(),
            models=None if models is None else centring.references(models),
            population=None if population is None else centring.scans(population),
        )
        return self._named().score(centring.scans(target), known, rng)

    def _named(self) -> Attack:
        """Return the attack under this one's name, which its errors then say, where it can be set."""
        attack: Any = self.attack
        if "name" not in {field.name for field in fields(attack)}:
            return self.attack
        named: Attack = replace(attack, name=self.name)
        return named


def centred_forms(attacks: Iterable[Attack]) -> dict[str, Attack]:
    """Return both forms, by name, of every attack that reads the prediction alone or with its stated SD.

    Other signals hold the raw error, or the raw prediction, which moving the prediction leaves there.
    """
    forms = [
        Recentred(attack, curve)
        for attack in attacks
        if {PREDICTION} <= attack.requires <= READ_CENTRED and "centred-" not in attack.name
        for curve in (False, True)
    ]
    return {form.name: form for form in forms}


@dataclass(frozen=True)
class _Centring:
    """Centres by the leaked scans of the target and their folds, snapshot by snapshot."""

    leaked: SignalTable
    folds: IntArray
    curve: bool

    def scans(self, table: SignalTable) -> SignalTable:
        """Return other scans under the target with centred predictions."""
        return _moved(table, [[self._centre(s, table.age) for s in range(len(table.snapshots))]])

    def leaked_scans(self) -> SignalTable:
        """Return the leaked scans, each centred without its own fold."""
        members, ages = self.leaked.is_member(), self.leaked.age
        errors = [self.leaked.error(snapshot=s) for s in range(len(self.leaked.snapshots))]
        return _moved(
            self.leaked,
            [[e - centred(e, ages, members, self.folds, curve=self.curve) for e in errors]],
        )

    def references(self, models: SignalTable) -> SignalTable:
        """Return the references' scans, each reference centred on its own members."""
        shifts = [
            [self._reference_centre(models, k, s) for s in range(len(models.snapshots))]
            for k in range(len(models.models))
        ]
        return _moved(models, shifts)

    def _centre(self, snapshot: int, ages: FloatArray, *, members: bool = True) -> FloatArray:
        errors, group = self.leaked.error(snapshot=snapshot), self.leaked.is_member() == members
        return fit_centre(errors, self.leaked.age, group, curve=self.curve)(ages)

    def _reference_centre(self, models: SignalTable, k: int, snapshot: int) -> FloatArray:
        errors, states, ages = models.error(model=k, snapshot=snapshot), models.membership[k], models.age
        inside, outside = states == Membership.MEMBER, states == Membership.NON_MEMBER
        if inside.any():
            return fit_centre(errors, ages, inside, curve=self.curve)(ages)
        if not outside.any():
            return np.zeros(len(ages))
        gap = self._centre(-1, ages) - self._centre(-1, ages, members=False)
        return fit_centre(errors, ages, outside, curve=self.curve)(ages) + gap


def _moved(table: SignalTable, shifts: list[list[FloatArray]]) -> SignalTable:
    """Return ``table`` with predictions less ``shifts``: models × snapshots × scans (years)."""
    moved = [
        [table.read(PREDICTION, model=k, snapshot=s) - shift for s, shift in enumerate(row)]
        for k, row in enumerate(shifts)
    ]
    return replace(table, values={**table.values, PREDICTION: LazyArray(np.array(moved))})
