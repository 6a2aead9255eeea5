"""An audit of predictions alone: a table in, the same run folder out as from any audit.

No model and no scan is needed: every black-box attack without reference models runs on the table's errors.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from privoxel.attacks import ATTACKS, WITH_STATED_SD
from privoxel.attacks.base import Attack, ThreatModel, needs_models
from privoxel.cohort.base import Cohort, Grid, NoVolumes
from privoxel.cohort.predictions import Predictions, load_predictions
from privoxel.recipes.audit import Outcome
from privoxel.recipes.brought import Brought, BroughtAudit, audit_brought, given_table
from privoxel.recipes.target import Observed, TargetPlan, Workplace
from privoxel.signals.table import PREDICTION, STATED_SD

NAME = "predictions"
PredictionAudit = BroughtAudit


def black_box_attacks(*, stated_sd: bool = False) -> dict[str, Attack]:
    """Return every attack that needs predictions and ages alone: no gradients, no reference models.

    With ``stated_sd`` those too that need the standard deviation that the model states.
    """
    held = {PREDICTION, STATED_SD} if stated_sd else {PREDICTION}
    return {
        name: attack
        for name, attack in {**ATTACKS, **WITH_STATED_SD}.items()
        if attack.threat_model is ThreatModel.BLACK_BOX
        and attack.requires <= held
        and not needs_models(attack)
    }


def audit_predictions(path: Path, output: Path, options: BroughtAudit) -> Outcome:
    """Audit the table of predictions at ``path`` in the run folder ``output`` and return the results.

    Raises:
        PrivoxelError: for a table, settings or a folder that cannot be used.
    """
    table = load_predictions(path, skip_bad=options.skip_bad)
    return audit_brought(brought_predictions(path.name, table), output, options)


def brought_predictions(name: str, table: Predictions) -> Brought:
    """Return what a table of predictions gives an audit; ``name`` is the table's."""
    people = table.covariates
    row_of = {scan: row for row, scan in enumerate(people.scans)}

    def observe(plan: TargetPlan, attacks: Sequence[Attack], workplace: Workplace) -> Observed:  # noqa: ARG001
        rows = [row_of[scan] for scan in workplace.cohort.covariates.scans]
        signals = {PREDICTION: table.prediction[rows]}
        if table.sd is not None:
            signals[STATED_SD] = table.sd[rows]
        return given_table(plan, workplace, signals)

    return Brought(
        kind=NAME,
        name=NAME,
        cohort=_cohort(name, table),
        states=dict(zip((scan.participant for scan in people.scans), table.state.tolist(), strict=True)),
        attacks=black_box_attacks(stated_sd=table.sd is not None),
        observe=observe,
    )


def _cohort(name: str, table: Predictions) -> Cohort:
    parts = (table.prediction, table.state, *(() if table.sd is None else (table.sd,)))
    digest = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
    return Cohort(
        name,
        table.covariates,
        Grid((0, 0, 0), 0.0, (0.0, 0.0, 0.0)),
        NoVolumes(len(table.covariates)),
        digest,
        problems=table.problems,
    )
