"""An audit of predictions alone: a table in, the same run folder out as from any audit.

No model and no scan is needed: every black-box attack runs on the table's errors, those with reference models
where the table has answers of such models.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from privoxel.arrays import FloatArray
from privoxel.attacks import ATTACKS, WHEN_NAMED, WITH_STATED_SD
from privoxel.attacks.base import (
    Attack,
    ReferenceKind,
    ThreatModel,
    fewest_references,
    needs_models,
    needs_one_shadow,
    reference_kind,
)
from privoxel.cohort.base import Cohort, Grid, NoVolumes
from privoxel.cohort.memberships import Sources, load_grouped
from privoxel.cohort.predictions import Predictions, load_predictions
from privoxel.recipes.audit import Outcome
from privoxel.recipes.brought import audit_brought, given_table
from privoxel.recipes.brought_settings import Brought, BroughtAudit
from privoxel.recipes.target import Observed, TargetPlan, Workplace
from privoxel.signals.table import PREDICTION, STATED_SD, LazyArray, Membership, SignalTable

NAME = "predictions"
LISTS_WIN = "Members are those of the given lists; a column 'member' of the table was not read."
PredictionAudit = BroughtAudit


def black_box_attacks(
    *, stated_sd: bool = False, references: int = 0, among: Mapping[str, Attack] = ATTACKS
) -> dict[str, Attack]:
    """Return every attack of ``among`` that needs predictions and ages alone: no gradients.

    With ``stated_sd`` those too that need the standard deviation that the model states; with ``references``
    those that make do with so many reference models, none of which was trained on the person.
    """
    held = {PREDICTION, STATED_SD} if stated_sd else {PREDICTION}
    return {
        name: attack
        for name, attack in {**among, **(WITH_STATED_SD if stated_sd else {})}.items()
        if attack.threat_model is ThreatModel.BLACK_BOX
        and attack.requires <= held
        and (not needs_models(attack) or makes_do(attack, references))
    }


def makes_do(attack: Attack, references: int) -> bool:
    """Return whether so many reference models suffice that were not trained on the person to be judged."""
    inside, outside = fewest_references(attack)
    is_plain = reference_kind(attack) is ReferenceKind.SHADOW and not needs_one_shadow(attack)
    return is_plain and inside == 0 and 0 < outside <= references


def audit_predictions(
    path: Path,
    output: Path,
    options: BroughtAudit,
    *,
    members: Path | None = None,
    non_members: Path | None = None,
) -> Outcome:
    """Audit the table of predictions at ``path`` in the run folder ``output`` and return the results.

    Args:
        path: the table.
        output: the run folder.
        options: how it is audited.
        members: list of who trained the model, instead of the table's column ``member``.
        non_members: list of whom it never saw; everybody else in the table if left out.

    Raises:
        PrivoxelError: for a table, lists, settings or a folder that cannot be used.
    """
    return audit_brought(open_predictions(path, options, members, non_members), output, options)


def open_predictions(
    path: Path,
    options: BroughtAudit,
    members: Path | None = None,
    non_members: Path | None = None,
    *,
    members_only: bool = False,
) -> Brought:
    """Return what the table at ``path`` gives an audit; lists win over its column ``member``.

    Args:
        path: the table.
        options: how it is audited.
        members: list of who trained the model, instead of the column.
        non_members: list of whom it never saw; everybody else in the table if left out.
        members_only: do without non-members.

    Raises:
        ProblemsError: with everything that is wrong with the table and the lists.
        CohortError: if there are no members, or nobody else where they are needed.
    """
    if members is None and non_members is None:
        table = load_predictions(path, skip_bad=options.skip_bad, members_only=members_only)
        return brought_predictions(path.name, table)
    reader = _TableReader()
    sources = Sources(path, members, non_members, members_only)
    grouped = load_grouped(sources, reader, skip_bad=options.skip_bad)
    table = replace(reader.table, state=grouped.scan_states)
    return brought_predictions(path.name, table, (LISTS_WIN, *grouped.notes))


@final
class _TableReader:
    """Reads a table of predictions as cohorts are read: faults of lines are the cohort's problems."""

    table: Predictions

    def __call__(self, path: Path, /, *, skip_bad: bool) -> Cohort:
        self.table = load_predictions(path, skip_bad=skip_bad, needs_member=False)
        return _cohort(path.name, self.table)


def brought_predictions(name: str, table: Predictions, notes: tuple[str, ...] = ()) -> Brought:
    """Return what a table of predictions gives an audit; ``notes`` are for its readers."""
    people = table.covariates
    row_of = {scan: row for row, scan in enumerate(people.scans)}

    def observe(plan: TargetPlan, attacks: Sequence[Attack], workplace: Workplace) -> Observed:  # noqa: ARG001
        rows = [row_of[scan] for scan in workplace.cohort.covariates.scans]
        signals = {PREDICTION: table.prediction[rows]}
        if table.sd is not None:
            signals[STATED_SD] = table.sd[rows]
        observed = given_table(plan, workplace, signals)
        if table.references is None:
            return observed
        return observed._replace(references=reference_table(observed.table, table.references[rows]))

    return Brought(
        kind=NAME,
        name=NAME,
        cohort=_cohort(name, table),
        states=dict(zip((scan.participant for scan in people.scans), table.state.tolist(), strict=True)),
        attacks=black_box_attacks(stated_sd=table.sd is not None, references=fewest_outside(table)),
        when_named=black_box_attacks(references=fewest_outside(table), among=WHEN_NAMED),
        observe=observe,
        notes=notes,
    )


def fewest_outside(table: Predictions) -> int:
    """Return how many reference models there are at least for every scan; none of them knows the person."""
    if table.references is None:
        return 0
    return int(np.isfinite(table.references).sum(axis=1).min())


def reference_table(scans: SignalTable, answers: FloatArray) -> SignalTable:
    """Return reference models on ``scans``: ``answers`` are scans × models, years, NaN where one is left out.

    A model that was trained on the person is left out of what is known about it: its answer there was not
    given.
    """
    known = np.isfinite(answers).T
    filled = np.where(known, answers.T, scans.age)
    return SignalTable(
        scans.covariates,
        tuple(f"reference-{k}" for k in range(1, len(known) + 1)),
        ("given",),
        np.where(known, Membership.NON_MEMBER, Membership.EXCLUDED).astype(np.int8),
        {PREDICTION: LazyArray(filled[:, None].astype(np.float32))},
    )


def _cohort(name: str, table: Predictions) -> Cohort:
    parts: list[npt.NDArray[Any]] = [table.prediction, table.state]
    parts += [part for part in (table.sd, table.references) if part is not None]
    digest = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
    return Cohort(
        name,
        table.covariates,
        Grid((0, 0, 0), 0.0, (0.0, 0.0, 0.0)),
        NoVolumes(len(table.covariates)),
        digest,
        problems=table.problems,
    )
