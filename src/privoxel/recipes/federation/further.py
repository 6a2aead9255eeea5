"""Attacks in a federation beyond the paper: series over rounds, the curious server, the active learner.

None of them trains a classifier, so one score a scan serves every attacker; each stands beside what age
alone reaches in the same comparison.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.attacks.active import pulled_back
from privoxel.attacks.attribution import age_odds, attribute, attribute_by_age
from privoxel.attacks.base import ThreatModel
from privoxel.attacks.fedmia import fedmia
from privoxel.attacks.trajectory import fall, interquartile_range
from privoxel.attacks.updates import gradient_difference, update_cosine
from privoxel.evaluation.federation_results import Further
from privoxel.evaluation.intervals import clopper_pearson
from privoxel.evaluation.metrics import to_metric
from privoxel.evaluation.pairs import PairDraws, difference, mean_over_pairs
from privoxel.evaluation.results import Metric
from privoxel.models.base import AuditableModel
from privoxel.recipes.federation.attacking import AGE_LOGISTIC, Attackers
from privoxel.recipes.federation.judging import Judge
from privoxel.recipes.federation.observing import Site, Watched, builder, extract_signals, job_of_site
from privoxel.signals.directions import direction_name, direction_norm, update_directions
from privoxel.signals.extract import total_norm
from privoxel.signals.table import GRADIENT_NORMS, PREDICTION, PRODUCT
from privoxel.training.federated.active import Ascent
from privoxel.training.federated.job import Learner
from privoxel.training.federated.run import run_federation
from privoxel.training.loop import load_weights

LI = "Li et al. 2023 (ICLR)"
FEDMIA_LEARNERS = 3  # two others make a spread
HIDDEN = "secure aggregation: no learner's update reaches the server"


def further_attacks(site: Site, watched: Watched, attackers: Attackers, judge: Judge) -> list[Further]:
    """Return every attack beyond the paper that this federation's adversaries can carry out."""
    found = _series(site, watched, attackers, judge)
    found += _server(site, watched, judge)
    if site.config.attack.active_rounds:
        found.append(_active(site, watched, attackers, judge))
    return found


def _series(site: Site, watched: Watched, attackers: Attackers, judge: Judge) -> list[Further]:
    """Return what the models of all kept rounds give away without any classifier."""
    errors = np.stack([np.abs(watched.table.error(snapshot=k)) for k in range(len(watched.rounds))])
    norms = np.stack([total_norm(watched.table, k) for k in range(len(watched.rounds))])
    scores = {
        "|error|, last round": (-errors[-1], "Yeom et al. 2018"),
        "|error|, fall over the rounds": (fall(errors), "loss series; first minus last round"),
        "|error|, interquartile range": (interquartile_range(errors), "LT-IQR, arXiv 2411.05743"),
        "gradient norm, fall over the rounds": (
            fall(np.log(norms + 1e-12)),
            "gradient-norm series, logarithm",
        ),
    }
    return [
        _further(name, ThreatModel.MALICIOUS_LEARNER, source, _everyone(site, values), attackers, judge)
        for name, (values, source) in scores.items()
    ]


def _everyone(site: Site, values: FloatArray) -> FloatArray:
    """Return one score a scan as every attacker's: attackers × scans, NaN on its own scans."""
    rows = np.tile(values, (len(site.partition.learners), 1))
    for row, name in zip(rows, site.partition.learners, strict=True):
        row[site.rows(name)] = np.nan
    return rows


def _further(
    title: str, threat: ThreatModel, source: str, scores: FloatArray, attackers: Attackers, judge: Judge
) -> Further:
    """Return the row of an attack: its mean AUC over pairs, that of age alone, and their difference."""
    aucs = judge.aucs(scores)
    control = judge.aucs(attackers.attacks[AGE_LOGISTIC].values)
    same = PairDraws(np.where(np.isnan(aucs.values), np.nan, control.values), control.groups)
    return Further(
        name=title.replace(" ", "-"),
        title=title,
        threat_model=str(threat),
        source=source,
        metrics={
            "AUC, mean of all pairs": to_metric(mean_over_pairs(aucs)),
            "minus age alone": to_metric(mean_over_pairs(difference(aucs, same))),
        },
        control=to_metric(mean_over_pairs(control)),
    )


def _server(site: Site, watched: Watched, judge: Judge) -> list[Further]:
    """Return what the curious server finds in local updates, or that it holds none."""
    learners = site.partition.learners
    rounds = sorted({number for number, _ in watched.updates})[-site.config.attack.rounds :]
    rounds = [n for n in rounds if all((n, name) in watched.updates for name in learners)]
    if not rounds:
        if not site.config.federation.curious:
            return []
        return [
            Further(
                name="curious-server",
                title="Curious server",
                threat_model=str(ThreatModel.CURIOUS_SERVER),
                source=LI,
                metrics={},
                note=HIDDEN,
            )
        ]
    products, norms, sizes = _against_updates(site, watched, rounds)
    cosine = update_cosine(products, norms, sizes)
    local = _local_errors(site, watched, rounds[-1])
    scores = {
        "Local |error|, last round": (-local, "Yeom et al. 2018 on each learner's local model"),
        "Gradient-update cosine": (cosine.mean(axis=0), LI),
        "Gradient difference": (gradient_difference(products, norms).mean(axis=0), LI),
    }
    best = cosine.mean(axis=0)
    if len(learners) >= FEDMIA_LEARNERS:
        best = fedmia(cosine)
        scores["FedMIA on cosines"] = (best, "FedMIA (CVPR 2025), σ pooled over scans")
    rows = [_of_victims(name, source, values, site, judge) for name, (values, source) in scores.items()]
    return [*rows, _attribution(site, best)]


def _of_victims(title: str, source: str, scores: FloatArray, site: Site, judge: Judge) -> Further:
    """Return the row of what the server says of each learner's scans: row v for learner v."""
    aucs, control = judge.own_aucs(scores), judge.own_aucs(_age_scores(site, judge))
    return Further(
        name=title.replace(" ", "-"),
        title=title,
        threat_model=str(ThreatModel.CURIOUS_SERVER),
        source=source,
        metrics={
            "AUC, mean of all learners": to_metric(mean_over_pairs(aucs)),
            "minus age alone": to_metric(mean_over_pairs(difference(aucs, control))),
        },
        control=to_metric(mean_over_pairs(control)),
    )


def _age_scores(site: Site, judge: Judge) -> FloatArray:
    """Return the odds by age that a scan is learner v's and not an unseen one's, cross-fitted by halves."""
    people = site.cohort.covariates.participant_index
    scores = np.full((len(site.partition.learners), len(site.cohort)), np.nan)
    for row, inside, outside in zip(scores, judge.groups.members, judge.groups.non_members, strict=True):
        rows = np.concatenate([inside, outside])
        is_member = np.isin(rows, inside)
        for part in (0, 1):
            known, target = rows[people[rows] % 2 != part], rows[people[rows] % 2 == part]
            row[target] = age_odds(
                site.cohort.covariates.select(known),
                is_member[people[rows] % 2 != part],
                site.cohort.covariates.select(target),
            )
    return scores


def _against_updates(
    site: Site, watched: Watched, rounds: Sequence[int]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return products (rounds × learners × scans), gradient norms (rounds × scans), sizes of updates."""
    learners = site.partition.learners
    products, norms, sizes = [], [], []
    for number in rounds:
        model = site.runtime.place(builder(site)())
        updates = {(number, name): watched.updates[number, name] for name in learners}
        names = [name for name, _ in model.named_parameters()]
        directions = update_directions(watched.models, updates, names)
        directions = {
            name: {key: value.to(site.runtime.device) for key, value in direction.items()}
            for name, direction in directions.items()
        }
        wanted = (PREDICTION, GRADIENT_NORMS, *(f"{PRODUCT}{name}" for name in directions))
        table = extract_signals(
            site, f"updates-{number:04d}", [watched.models[number - 1]], wanted, directions
        )
        order = [direction_name(number, name) for name in learners]
        products.append([table.read(f"{PRODUCT}{name}") for name in order])
        norms.append(total_norm(table))
        sizes.append([direction_norm(directions[name]) for name in order])
    return np.asarray(products, dtype=np.float64), np.stack(norms), np.asarray(sizes)


def _local_errors(site: Site, watched: Watched, number: int) -> FloatArray:
    """Return |error| of every scan under each learner's local model: learners × scans, years."""
    tables = [
        extract_signals(site, f"local-{number:04d}-{name}", [watched.updates[number, name]], (PREDICTION,))
        for name in site.partition.learners
    ]
    return np.stack([np.abs(table.error()) for table in tables])


def _active(site: Site, watched: Watched, attackers: Attackers, judge: Judge) -> Further:
    """Return what the first learner finds by pushing up the loss of everyone it asks about."""
    pusher = site.partition.learners[0]
    others = [site.rows(name) for name in site.partition.learners if name != pusher]
    targets = np.sort(np.concatenate([*others, attackers.judged]))
    settings = site.config.attack
    federation = run_federation(
        partial(_continued, builder(site), watched.models[-1]),
        site.cohort,
        [Learner(name, site.rows(name)) for name in site.partition.learners],
        replace(job_of_site(site), rounds=settings.active_rounds, absent={}),
        folder=site.folder.path / "active",
        streams=site.streams.child("federation/active"),
        runtime=site.runtime,
        progress=site.progress,
        ascent=Ascent(pusher, targets, settings.active_rate),
    )
    pushed = extract_signals(site, "active", federation.rounds[1:], (PREDICTION,))
    errors = np.stack([pushed.error(snapshot=k) for k in range(settings.active_rounds)])
    scores = np.full((len(site.partition.learners), len(site.cohort)), np.nan)
    scores[0] = pulled_back(errors)
    scores[0, site.rows(pusher)] = np.nan
    found = _further(
        "Active learner", ThreatModel.ACTIVE_LEARNER, "Nasr et al. 2019, 3.3", scores, attackers, judge
    )
    return found.model_copy(update={"note": f"by {pusher} alone, {settings.active_rounds} pushed rounds"})


def _continued(build: Callable[[], AuditableModel], weights: Path) -> AuditableModel:
    model = build()
    load_weights(model, weights)
    return model


def _attribution(site: Site, scores: FloatArray) -> Further:
    """Return how often the likeliest learner of a member is the right one, beside age and beside chance."""
    rows, holder = site.members, _holders(site)
    named = attribute(scores[:, rows]) == holder[rows]
    by_age = np.empty(len(rows), dtype=np.bool_)
    people = site.cohort.covariates.participant_index[rows]
    fold = people % 2
    for part in (0, 1):
        known, target = rows[fold != part], rows[fold == part]
        guessed = attribute_by_age(
            site.cohort.covariates.select(known), holder[known], site.cohort.covariates.select(target)
        )
        by_age[fold == part] = guessed == holder[target]
    return Further(
        name="site-attribution",
        title="Which learner holds this participant?",
        threat_model=str(ThreatModel.CURIOUS_SERVER),
        source="largest score over the learners",
        metrics={"share named rightly": _rate(named)},
        control=_rate(by_age),
        note=f"chance is {1 / len(site.partition.learners):.3f}; the control names by age",
    )


def _holders(site: Site) -> IntArray:
    holder = np.full(len(site.cohort), -1, dtype=np.int64)
    for place, name in enumerate(site.partition.learners):
        holder[site.rows(name)] = place
    return holder


def _rate(hits: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Metric:
    value = float(hits.mean())
    low, high = clopper_pearson(value, len(hits), 0.95)
    return Metric(value=value, low=low, high=high, method="exact binomial over scans of members")
