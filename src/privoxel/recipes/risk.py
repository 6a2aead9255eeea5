"""The risk of each participant: a table for the data's owner, and the part of it that may be shown.

``participants_risk.tsv`` names people; it is written for its owner alone. What enters ``results.json`` and
the report are groups of at least ``[report] smallest_group`` people.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.cohort.base import Covariates
from privoxel.config import RunConfig
from privoxel.evaluation.exposure import LIMITS, rank_correlation, shares_above, site_differences
from privoxel.evaluation.metrics import to_metric
from privoxel.evaluation.posteriors import posterior_reliability
from privoxel.evaluation.results import Driver, GroupLine, Metric, ReliabilityBin, RiskSummary
from privoxel.evaluation.risk import k_anonymous_summary
from privoxel.evaluation.scored import Estimate
from privoxel.recipes.concluding import by_model
from privoxel.recipes.judging import Judged
from privoxel.recipes.model_risk import ModelRisk, People, model_risk, people_of
from privoxel.recipes.risk_table import risk_table, sidecar
from privoxel.store import RunFolder, write_json, write_text

TABLE, SIDECAR = "participants_risk.tsv", "participants_risk.json"

Kind = Literal["rank correlation", "difference of the mean"]


class Risk(NamedTuple):
    """The table of everyone, and the summary of each model that may be shown."""

    table: str
    sidecar: Mapping[str, Any]
    summaries: tuple[RiskSummary, ...]


def assess_risk(judged: Sequence[Judged], covariates: Covariates, config: RunConfig) -> Risk:
    """Return the risk of every judged participant, from the scores of the primary attack.

    ``covariates`` are those of the cohort whose participants' order gives the codes of the scores.
    """
    people = people_of(covariates)
    models = [model_risk(mine, people, config) for mine in by_model(judged)]
    counts = [(len(mine), _sizes(mine)) for mine in by_model(judged)]
    summaries = tuple(
        summary_of(one, people, config, n_targets=n, sizes=sizes)
        for one, (n, sizes) in zip(models, counts, strict=True)
    )
    return Risk(risk_table(models, people, config), sidecar(config), summaries)


def write_risk(risk: Risk, folder: RunFolder) -> None:
    """Write the table, readable by its owner alone, and the sidecar that describes its columns."""
    path = folder.path / TABLE
    path.touch(mode=0o600)
    write_text(path, risk.table)
    path.chmod(0o600)
    write_json(folder.path / SIDECAR, dict(risk.sidecar))


def _sizes(targets: Sequence[Judged]) -> tuple[int, int]:
    """Return how many people were a member, and how many a non-member, of any of the targets."""
    groups = ([one.scores.participants[one.scores.members == inside] for one in targets] for inside in (1, 0))
    members, others = (len(np.unique(np.concatenate(group))) for group in groups)
    return members, others


def summary_of(
    risk: ModelRisk, people: People, config: RunConfig, *, n_targets: int, sizes: tuple[int, int]
) -> RiskSummary:
    """Return the part of a model's risk that may be shown: groups of at least ``smallest_group`` people."""
    k, stated = config.report.smallest_group, np.flatnonzero(~np.isnan(risk.member.mean))
    others = risk.non_member.mean[~np.isnan(risk.non_member.mean)]
    common: dict[str, Any] = {
        "model": risk.model,
        "attack": config.attacks.primary,
        "n_targets": n_targets,
        "n_members": sizes[0],
        "n_non_members": sizes[1],
        "smallest_group": k,
    }
    reason = risk.reason
    if not reason and min(len(stated), len(others)) < k:
        reason = f"fewer than {k} members or non-members have a probability"
    if reason:
        return RiskSummary(**common, reason=reason)
    probability = risk.member.mean[stated]
    sds = risk.member.sd[~np.isnan(risk.member.sd)]
    groups = k_anonymous_summary(
        probability,
        people.age[stated],
        [people.sex[row] or "unknown" for row in stated],
        [people.site[row] or "unknown" for row in stated],
        k=k,
    )
    points = posterior_reliability(risk.posteriors, smallest=k)
    return RiskSummary(
        **common,
        mean_members=float(probability.mean()),
        mean_non_members=float(others.mean()),
        sd_over_targets=float(sds.mean()) if len(sds) >= k else None,
        above={"members": _above(probability, k), "non_members": _above(others, k)},
        reliability=[
            ReliabilityBin(stated=p.stated, share=p.share, low=p.low, high=p.high, participants=p.size)
            for p in points
        ],
        groups=[GroupLine(**_line(group._asdict())) for group in groups],
        drivers=_drivers(risk, people, stated, k),
    )


def _above(probability: FloatArray, k: int) -> dict[str, Metric]:
    shares = shares_above(probability, smallest=k)
    return {f"{limit:g}": to_metric(share) for limit, share in zip(LIMITS, shares, strict=True)}


def _line(group: dict[str, Any]) -> dict[str, Any]:
    return {
        **{key: group[key] for key in ("age_band", "sex", "site", "low", "high")},
        "participants": group["size"],
        "probability": group["mean_posterior"],
    }


def _drivers(risk: ModelRisk, people: People, stated: IntArray, k: int) -> list[Driver]:
    probability, age = risk.member.mean[stated], people.age[stated]
    candidates = (
        ("age-distance", "Distance of the age from the members' mean age", np.abs(age - age.mean())),
        ("error", "Absolute error of the model that was trained on the person", risk.member_error[stated]),
        (
            "unseen-error",
            "Absolute error of the models that never saw the person",
            risk.non_member_error[stated],
        ),
    )
    found = []
    for name, title, values in candidates:
        both = int((~np.isnan(values)).sum())
        if both >= max(k, 5):
            correlation = rank_correlation(probability, values)
            found.append(_driver(name, title, "rank correlation", correlation, both))
    site = [people.site[row] or "unknown" for row in stated]
    found += [
        _driver(
            f"site-{one.site}",
            f"Site {one.site} against all others",
            "difference of the mean",
            one.difference,
            one.size,
        )
        for one in site_differences(probability, site, smallest=k)
    ]
    return found


def _driver(name: str, title: str, measure: Kind, estimate: Estimate, participants: int) -> Driver:
    return Driver(
        name=name, title=title, measure=measure, estimate=to_metric(estimate), participants=participants
    )
