"""``participants_risk.tsv``: a row for every judged participant and model, and what its columns mean.

The table names people and says who trained a model. It is for the cohort's owner and nobody else.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from privoxel.arrays import BoolArray, FloatArray
from privoxel.config import RunConfig
from privoxel.evaluation.exposure import site_differences
from privoxel.recipes.model_risk import ModelRisk, People

TAIL = 0.025
"""Share of the ages on either side that counts as an outlier."""

RARE = 0.05
"""Share of the errors on unseen people that counts as extreme on either side."""

COLUMNS: Mapping[str, Mapping[str, Any]] = {
    "participant_id": {"Description": "participant (a person), as in participants.tsv of the cohort"},
    "model": {"Description": "audited model"},
    "targets": {"Description": "trained models of this kind on which the participant was judged"},
    "targets_trained": {"Description": "of these, the ones that were trained on the participant"},
    "age": {"Description": "age at the scan, mean over scans", "Units": "year"},
    "sex": {"Description": "sex as recorded", "Levels": {"F": "female", "M": "male"}},
    "site": {"Description": "site as recorded"},
    "probability_member": {
        "LongName": "Membership probability where the participant was a member",
        "Description": "what the adversary would state at even prior odds, mean over the targets trained on "
        "the participant; calibrated on other participants (Platt 1999)",
        "Units": "fraction, 0-1",
    },
    "probability_member_sd": {
        "Description": "SD of that probability over the targets trained on the participant; n/a for fewer "
        "than two",
        "Units": "fraction, 0-1",
    },
    "called_member": {
        "Description": "share of the targets trained on the participant in which the probability exceeds 0.5",
        "Units": "fraction, 0-1",
    },
    "probability_non_member": {
        "LongName": "Membership probability where the participant was not a member",
        "Description": "the same, mean over the targets that were not trained on the participant: a false "
        "accusation where it is high",
        "Units": "fraction, 0-1",
    },
    "rank": {"Description": "place among the members of this model by probability_member; 1 is most exposed"},
    "error_member": {
        "Description": "mean absolute error of the models trained on the participant",
        "Units": "year",
    },
    "error_non_member": {
        "Description": "mean absolute error of the models not trained on the participant",
        "Units": "year",
    },
    "reasons": {
        "Description": "what is unusual about the participant and may explain the exposure, "
        "separated by commas",
        "Levels": {
            "age-outlier": "younger than 97.5 % or older than 97.5 % of all judged participants",
            "fitted-closely": "as a member, a smaller error than 95 % of unseen participants have",
            "fitted-badly": "as a member, a larger error than 95 % of unseen participants have",
            "hard-when-unseen": "as a non-member, a larger error than 95 % of unseen participants have",
            "site": "members of this site have clearly higher probabilities than those of other sites",
        },
    },
}


def sidecar(config: RunConfig) -> dict[str, Any]:
    """Return the description of every column of the table, as BIDS describes tables."""
    return {
        "MeasurementToolMetadata": {
            "Description": "Membership-inference audit by privoxel: participant-level data, NOT FOR RELEASE. "
            "It says who trained a model and whom an adversary would name; keep it with the cohort itself.",
            "Attack": config.attacks.primary,
            "PriorOdds": "1:1; add the log-odds of another prevalence to those of a probability to change it",
            "MissingValues": "n/a",
        },
        **{name: dict(facts) for name, facts in COLUMNS.items()},
    }


def risk_table(models: Sequence[ModelRisk], people: People, config: RunConfig) -> str:
    """Return the table: a row for every judged participant and model, in the cohort's order."""
    text = io.StringIO()
    rows = csv.writer(text, delimiter="\t", lineterminator="\n")
    rows.writerow(COLUMNS)
    for risk in models:
        reasons = _reasons(risk, people, config.report.smallest_group)
        ranks = _ranks(risk.member.mean)
        for row in np.flatnonzero(risk.judged):
            rows.writerow(
                (
                    f"sub-{people.names[row]}",
                    risk.model,
                    int(risk.judged[row]),
                    int(risk.trained[row]),
                    f"{people.age[row]:.2f}",
                    people.sex[row] or "n/a",
                    people.site[row] or "n/a",
                    _number(risk.member.mean[row]),
                    _number(risk.member.sd[row]),
                    _number(risk.member.called[row]),
                    _number(risk.non_member.mean[row]),
                    ranks[row] or "n/a",
                    _number(risk.member_error[row]),
                    _number(risk.non_member_error[row]),
                    ",".join(name for name, applies in reasons.items() if applies[row]) or "n/a",
                )
            )
    return text.getvalue()


def _reasons(risk: ModelRisk, people: People, k: int) -> dict[str, BoolArray]:
    """Return who is unusual in what respect; comparisons with NaN hold for nobody."""
    judged = risk.judged > 0
    youngest, oldest = np.quantile(people.age[judged], [TAIL, 1.0 - TAIL])
    unseen = risk.non_member_error[~np.isnan(risk.non_member_error)]
    small, large = np.quantile(unseen, [RARE, 1.0 - RARE])
    stated = np.flatnonzero(~np.isnan(risk.member.mean))
    sites = site_differences(risk.member.mean[stated], [people.site[row] for row in stated], smallest=k)
    exposed = {one.site for one in sites if one.difference.low is not None and one.difference.low > 0.0}
    return {
        "age-outlier": (people.age < youngest) | (people.age > oldest),
        "fitted-closely": risk.member_error < small,
        "fitted-badly": risk.member_error > large,
        "hard-when-unseen": risk.non_member_error > large,
        "site": np.array([site in exposed for site in people.site], dtype=np.bool_),
    }


def _ranks(probability: FloatArray) -> list[int]:
    """Return each member's place by falling probability, 0 for everyone else; ties share the better place."""
    known = np.sort(probability[~np.isnan(probability)])
    above = len(known) - np.searchsorted(known, probability, "right") + 1
    return [0 if np.isnan(p) else int(place) for p, place in zip(probability, above, strict=True)]


def _number(value: float) -> str:
    return "n/a" if np.isnan(value) else f"{value:.4f}"
