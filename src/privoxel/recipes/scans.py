"""What every attack said of every scan, as a table for the data's owner: ``participants_scores.tsv``.

These are values about people. The file is readable by its owner alone and never part of what is shared.
"""

import csv
import io
from pathlib import Path

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.attacks import get_attack
from privoxel.cohort.base import Covariates
from privoxel.recipes.judging import Judged
from privoxel.store import write_json, write_text
from privoxel.version import __version__

TABLE = "participants_scores.tsv"
SIDECAR = "participants_scores.json"
NOT_BIDS = (
    "config.toml",
    "id-key.hex",
    "logs/",
    "manifest.json",
    "participants_*",
    "privacy_card.*",
    "report.html",
    "results.*",
    "scores.npz",
    "signals/",
)


def write_scores(folder: Path, judged: Judged, people: Covariates) -> Path:
    """Write one line a scan and its BIDS sidecar; return the table's path.

    A score is the mean over the attackers that were not told about the person; higher is likelier a member.
    """
    evaluated = judged.scores.evaluated
    columns = {
        "participant_id": [f"sub-{scan.participant}" for scan in people.scans],
        "session": [scan.session or "n/a" for scan in people.scans],
        "member": judged.scores.members.astype(int).tolist(),
        "error": np.round(judged.scores.prediction - judged.scores.age, 4).tolist(),
        **{name: _written(np.nanmean(found.scores, axis=0)) for name, found in evaluated.items()},
    }
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    table = folder / TABLE
    write_text(table, text.getvalue())
    table.chmod(0o600)
    write_json(folder / SIDECAR, _sidecar(list(evaluated)))
    return table


def describe_derivative(folder: Path) -> None:
    """Write what makes the run folder a BIDS derivative: who made it, and which files BIDS does not know."""
    description = {
        "Name": "Membership-inference audit",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "privoxel", "Version": __version__}],
    }
    write_json(folder / "dataset_description.json", description)
    write_text(folder / ".bidsignore", "".join(f"{name}\n" for name in NOT_BIDS))


def _written(values: FloatArray) -> list[str]:
    return [f"{value:.6g}" for value in values]


def _sidecar(attacks: list[str]) -> dict[str, dict[str, object]]:
    described: dict[str, dict[str, object]] = {
        "participant_id": {"Description": "Participant, as in the audited table"},
        "session": {"Description": "Session, n/a where the table names none"},
        "member": {
            "Description": "Whether the participant was trained on",
            "Levels": {"1": "member", "0": "non-member"},
        },
        "error": {"Description": "Predicted minus true age", "Units": "years"},
    }
    for name in attacks:
        described[name] = {
            "Description": f"Score of the attack '{get_attack(name).title}': higher is likelier a member; "
            "mean over the attackers that were not told about the participant"
        }
    return described
