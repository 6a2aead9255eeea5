"""Believable results that no run produced: inputs for the report's tests and for looking at pages.

Every number here is fabricated: scores come from normal draws whose spread follows Fig. 1 of the
paper, and the page's title says so.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, rankdata

from privoxel.evaluation.archive import Archive, TargetScores
from privoxel.evaluation.metrics import to_metric
from privoxel.evaluation.prevalence import precision_of
from privoxel.evaluation.results import (
    AttackResult,
    AttackSummary,
    BestAttack,
    CohortSummary,
    Driver,
    GroupLine,
    LowerBound,
    Metric,
    OtherScans,
    PairedComparison,
    PrivacyLoss,
    ReliabilityBin,
    Results,
    RiskSummary,
    Spread,
    Target,
    TrainingPoint,
    Utility,
    Verdict,
)
from privoxel.evaluation.scored import Evaluated
from privoxel.evaluation.utility import mean_errors

RATES = (0.001, 0.01, 0.05, 0.1)


class Recipe(NamedTuple):
    """What is made up for one attack: names, strength (0-1) and the paper's accuracy of both models."""

    name: str
    title: str
    threat_model: str
    signals: tuple[str, ...]
    strength: float
    paper: tuple[float | None, float | None] = (None, None)
    notes: tuple[str, ...] = ()


ATTACKS = (
    Recipe("default", "Cross-fitted choice", "black-box", ("prediction",), 1.0),
    Recipe("error-threshold", "Absolute error, one threshold", "black-box", ("prediction",), 0.62),
    Recipe("error-forest", "Error, random forest", "black-box", ("prediction",), 0.4, (0.5990, 0.7406)),
    Recipe("prediction-label", "Prediction and label", "black-box", ("prediction",), 0.9, (0.7645, 0.8170)),
    Recipe("tube", "Tube: likelihood ratio of residual and age", "black-box", ("prediction",), 0.97),
    Recipe(
        "gradient-norms",
        "Gradient magnitudes",
        "white-box",
        ("gradient-norms",),
        0.7,
        (0.7260, 0.7834),
        ("structural zeros dropped (6 of 14 norms)",),
    ),
    Recipe("gradient-conv1", "Gradient of conv 1", "white-box", ("gradient:conv1",), 0.65, (0.7101, 0.8052)),
    Recipe(
        "gradient-conv6",
        "Gradient of conv 6",
        "white-box",
        ("gradient:conv6",),
        0.85,
        (0.7696, 0.8289),
        ("encoder=adapted",),
    ),
    Recipe(
        "paper-all",
        "Prediction, label and gradients of conv 6 and output",
        "white-box",
        ("prediction", "gradient:conv6", "gradient:output"),
        0.93,
        (0.7805, 0.8304),
        ("encoder=adapted",),
    ),
)

CONTROLS = (
    Recipe(
        "null_pseudo_members", "Pseudo-members (non-members split in two)", "black-box", ("prediction",), 0.0
    ),
    Recipe("null_target:default", "Model that never saw the members", "black-box", ("prediction",), 0.0),
    Recipe("covariates_only", "Covariates only (age, sex, site)", "no model (control)", (), 0.0),
)

OUTCOMES = {
    "leak shown": "Leak shown: from the black-box attack chosen in advance, AUC {auc:.2f} (95 % interval "
    "{low:.2f} to {high:.2f}) lies above the tolerated 0.55.",
    "no leak above the limit": "No leak above AUC 0.60 was found.",
    "inconclusive": "Inconclusive: with so few participants an AUC below 0.61 cannot be told from guessing.",
    "refused": "Refused: the declared members are predicted no better than by their mean age.",
}


@dataclass(frozen=True)
class Fabrication:
    """What to make up."""

    targets: int = 1
    models: tuple[str, ...] = ("cnn3d",)
    attacks: tuple[Recipe, ...] = ATTACKS
    outcome: str = "leak shown"
    per_class: int = 300
    repeats: int = 5
    gradient_norms: bool = True
    slices: int = 3
    simulated: bool = True
    null_metrics: bool = False
    people: bool = False
    sessions: bool = False
    epsilon: tuple[float, float | None] | None = None
    title: str = "Fabricated audit of two brain-age models"


def fabricated_run(wanted: Fabrication | None = None) -> tuple[Results, Archive]:
    """Return made-up results and the per-scan scores they were computed from."""
    wanted = wanted or Fabrication()
    rng = np.random.default_rng(7)
    names = [f"{model}-half-{row}" for model in wanted.models for row in range(wanted.targets)]
    models = [model for model in wanted.models for _ in range(wanted.targets)]
    scores = {name: _target_scores(wanted, rng) for name in names}
    targets = [_target(name, model, scores[name], wanted) for name, model in zip(names, models, strict=True)]
    results = Results(
        title=wanted.title,
        created="2026-11-23T10:30:00+00:00",
        versions={"privoxel": "0.1.0", "python": "3.12.4", "torch": "2.13.0", "numpy": "2.4.1"},
        machine={"system": "Linux", "cpu_count": 8, "threads": 2, "gpu": None},
        seed=20210707,
        config=_config(wanted),
        cohort=_cohort(wanted),
        targets=targets,
        summary=_summary(targets) if wanted.targets > 1 else [],
        verdict=_verdict(wanted, targets),
        best=[_best(wanted, model, targets) for model in wanted.models] if wanted.people else [],
        comparisons=[one for model in wanted.models for one in _comparisons(wanted, model)],
        risk=[_risk(wanted, model, rng) for model in wanted.models] if wanted.people else [],
        seconds={"preparation": 41.2, "training": 388.7, "signals": 62.0, "attacks": 95.3},
    )
    return results, Archive(scores, *_pictures(wanted, rng))


def _target_scores(wanted: Fabrication, rng: np.random.Generator) -> TargetScores:
    n = wanted.per_class
    members = np.repeat([True, False], n)
    age = rng.normal(62.6, 7.4, 2 * n).clip(45, 81)
    error = np.where(members, rng.normal(0.5, 1.9, 2 * n), rng.normal(0.8, 3.9, 2 * n))
    norms = np.abs(error) * rng.lognormal(3.6, 0.5, 2 * n)
    evidence = norm.logpdf(error, 0.5, 1.9) - norm.logpdf(error, 0.8, 3.9)
    evidence = np.where(evidence < -3, -3 + rng.normal(0, 0.1, 2 * n), evidence)
    groups = [
        {
            recipe.name: _evaluated(
                recipe.strength * evidence + (1.02 - recipe.strength) * rng.normal(0, 1, 2 * n),
                members,
                wanted.repeats,
                rng,
            )
            for recipe in kind
        }
        for kind in (wanted.attacks, CONTROLS)
    ]
    return TargetScores(
        age=age,
        prediction=age + error,
        gradient_norm=norms if wanted.gradient_norms else np.full(2 * n, np.nan),
        members=members,
        participants=np.arange(2 * n),
        evaluated=groups[0],
        controls=groups[1],
    )


def _evaluated(base: np.ndarray, members: np.ndarray, repeats: int, rng: np.random.Generator) -> Evaluated:
    scores = base + rng.normal(0, 0.1, (repeats, len(base)))
    for row in scores:
        row[rng.permutation(len(base))[: len(base) // 4]] = np.nan
    return Evaluated(scores, np.nanmedian(scores, axis=1), members, np.arange(len(base)))


def _measures(scores: np.ndarray, threshold: float, members: np.ndarray) -> dict[str, float]:
    inside, outside = scores[members], scores[~members]
    ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
    auc = (ranks.sum() - len(inside) * (len(inside) + 1) / 2) / (len(inside) * len(outside))
    accuracy = (np.mean(inside > threshold) + np.mean(outside <= threshold)) / 2
    rates = {f"tpr_at_fpr_{f}": float(np.mean(inside > np.quantile(outside, 1 - f))) for f in RATES}
    return {"balanced_accuracy": float(accuracy), "auc": float(auc), **rates}


def _metrics(evaluated: Evaluated, paper: float | None, *, null: bool) -> dict[str, Metric]:
    runs = []
    for row, threshold in zip(evaluated.scores, evaluated.thresholds, strict=True):
        seen = ~np.isnan(row)
        runs.append(_measures(row[seen], float(threshold), evaluated.members[seen]))
    methods = {"auc": "participant bootstrap", "balanced_accuracy": "stratified participant bootstrap"}
    found = {}
    for key in runs[0]:
        values = np.array([run[key] for run in runs])
        rate = float(key.rsplit("_", 1)[1]) if key.startswith("tpr") else None
        if null or (rate is not None and evaluated.n_non_members < 3 / rate):
            reason = f"a false-positive rate of {rate} needs at least {3 / (rate or 1):.0f} non-members"
            found[key] = Metric(value=None, reason=reason if rate else "the attack did not converge")
            continue
        value = float(values.mean())
        half = 1.96 * np.sqrt(value * (1 - value) / evaluated.n_members) * (0.9 if rate is None else 1)
        found[key] = Metric(
            value=value,
            low=max(0.0, value - half),
            high=min(1.0, value + half),
            method=methods.get(key, "exact binomial"),
            sd_repeats=float(values.std()),
            paper=paper if key == "balanced_accuracy" else None,
        )
    return found


def _attack(
    recipe: Recipe, evaluated: Evaluated, model: str, *, null: bool, precision: bool = False
) -> AttackResult:
    metrics = _metrics(evaluated, recipe.paper[model != "cnn3d"], null=null)
    if precision:
        metrics |= {f"precision_at_{p:g}": to_metric(precision_of(evaluated, p)) for p in (0.5, 0.01)}
    return AttackResult(
        name=recipe.name,
        title=recipe.title,
        threat_model=recipe.threat_model,
        signals=list(recipe.signals),
        metrics=metrics,
        n_members=evaluated.n_members,
        n_non_members=evaluated.n_non_members,
        n_leaked=200,
        repeats=len(evaluated.thresholds),
        notes=list(recipe.notes),
        seconds=1.5,
    )


def _target(name: str, model: str, scores: TargetScores, wanted: Fabrication) -> Target:
    null = wanted.null_metrics
    error = np.abs(scores.prediction - scores.age)
    inside, outside = float(error[scores.members].mean()), float(error[~scores.members].mean())
    curve = [
        TrainingPoint(
            epoch=e, train_mae=1.4 + 5 * float(np.exp(-e / 6)), validation_mae=3.1 + 3 * float(np.exp(-e / 5))
        )
        for e in range(1, 25)
    ]
    return Target(
        name=name,
        model=model,
        design={
            "number": 0,
            "protocol": "reproduction",
            "participants": {"members": wanted.per_class, "non_members": wanted.per_class, "validation": 60},
            "null_target_mae": {"members": 3.18, "non_members": 3.21, "null": 6.24, "gap": 0.03},
        },
        n_members=wanted.per_class,
        n_non_members=wanted.per_class,
        n_excluded=60,
        utility=Utility(members=inside, non_members=outside, null=6.24, gap=outside - inside),
        errors={
            name: to_metric(estimate)
            for name, estimate in mean_errors(
                scores.prediction - scores.age, scores.members, scores.participants
            )
            ._asdict()
            .items()
        },
        training=curve,
        attacks=[
            _attack(r, scores.evaluated[r.name], model, null=null, precision=wanted.people)
            for r in wanted.attacks
        ],
        controls=[_attack(r, scores.controls[r.name], model, null=null) for r in CONTROLS],
        other_scans=_other_scans(wanted) if wanted.sessions else [],
        epsilon=_epsilon(wanted),
    )


def _other_scans(wanted: Fabrication) -> list[OtherScans]:
    found = []
    for place, recipe in enumerate(wanted.attacks[:3]):
        value = 0.83 - 0.05 * place
        share = Metric(value=0.34, low=0.21, high=0.46, method="paired participant bootstrap of a ratio")
        if place == 2:
            share = Metric(value=None, reason="with the trained-on scans no leak is shown")
        found.append(
            OtherScans(
                name=recipe.name,
                title=recipe.title,
                threat_model=recipe.threat_model,
                n_members=wanted.per_class,
                n_non_members=wanted.per_class,
                trained_on=Metric(value=value, low=value - 0.04, high=value + 0.04),
                other_scan=Metric(value=0.61, low=0.56, high=0.66),
                share=share,
            )
        )
    return found


def _comparisons(wanted: Fabrication, model: str) -> list[PairedComparison]:
    findings = ("superior", "non-inferior", "inferior", "not shown")
    return [
        PairedComparison(
            name=recipe.name,
            title=recipe.title,
            threat_model=recipe.threat_model,
            baseline="abs-error",
            model=model,
            n_targets=wanted.targets,
            difference=Metric(
                value=0.021 - 0.01 * place, low=0.004 - 0.01 * place, high=0.038 - 0.01 * place
            ),
            finding=findings[place % len(findings)],
            margin=0.01,
        )
        for place, recipe in enumerate(wanted.attacks)
    ]


def _epsilon(wanted: Fabrication) -> list[PrivacyLoss]:
    recipe = wanted.attacks[0]
    upper = None if wanted.epsilon is None else wanted.epsilon[1]
    lower = 0.0 if wanted.epsilon is None else wanted.epsilon[0]
    bounds = [
        LowerBound(epsilon=lower, level=0.975, method="Clopper-Pearson", assumption="scores are independent"),
        LowerBound(epsilon=0.7, mu=0.2, level=0.975, method="Gaussian", assumption="a Gaussian mechanism"),
    ]
    return [
        PrivacyLoss(
            on="participants",
            attack=recipe.name,
            title=recipe.title,
            threat_model=recipe.threat_model,
            delta=1e-6,
            lower=lower,
            upper=upper,
            bounds=bounds,
            n_members=wanted.per_class,
            n_non_members=wanted.per_class,
        )
    ]


def _best(wanted: Fabrication, model: str, targets: list[Target]) -> BestAttack:
    same = [target for target in targets if target.model == model]
    attack = max(same[0].attacks, key=lambda one: one.metrics["auc"].value or 0.0)
    return BestAttack(
        name=attack.name,
        title=attack.title,
        threat_model=attack.threat_model,
        model=model,
        n_targets=len(same),
        candidates=len(wanted.attacks),
        auc=Metric(value=0.84, low=0.79, high=0.88, method="simultaneous"),
        p_value=0.001,
    )


def _risk(wanted: Fabrication, model: str, rng: np.random.Generator) -> RiskSummary:
    stated = np.sort(rng.random(10))
    bins = [
        ReliabilityBin(stated=s, share=s, low=max(s - 0.1, 0), high=min(s + 0.1, 1), participants=60)
        for s in stated
    ]
    bands = [f"{low}-{low + 9}" for low in (40, 50, 60, 70)]
    groups = [
        GroupLine(
            age_band=band,
            sex=sex,
            site=site,
            participants=int(rng.integers(5, 40)),
            probability=float(p),
            low=float(p - 0.06),
            high=float(p + 0.06),
        )
        for band in bands
        for sex, site, p in (("F", "A", rng.uniform(0.5, 0.8)), ("M", "all other", rng.uniform(0.5, 0.8)))
    ]
    shares = {
        "members": {
            "0.5": Metric(value=0.78, low=0.74, high=0.82),
            "0.9": Metric(value=0.2, low=0.1, high=0.3),
        },
        "non_members": {
            "0.5": Metric(value=0.24, low=0.2, high=0.29),
            "0.9": Metric(value=None, reason="it would single out a group of fewer than 5 people"),
        },
    }
    return RiskSummary(
        model=model,
        attack=wanted.attacks[0].name,
        n_targets=wanted.targets,
        n_members=wanted.per_class,
        n_non_members=wanted.per_class,
        smallest_group=5,
        mean_members=0.66,
        mean_non_members=0.34,
        sd_over_targets=0.17 if wanted.targets > 1 else None,
        above=shares,
        reliability=bins,
        groups=groups,
        drivers=[
            Driver(
                name="age-distance",
                title="Distance of the age from the members' mean age",
                measure="rank correlation",
                estimate=Metric(value=0.31, low=0.2, high=0.41),
                participants=wanted.per_class,
            ),
            Driver(
                name="site-A",
                title="Site A against all others",
                measure="difference of the mean",
                estimate=Metric(value=-0.02, low=-0.06, high=0.02),
                participants=40,
            ),
        ],
    )


def _summary(targets: list[Target]) -> list[AttackSummary]:
    rows = []
    for model in dict.fromkeys(target.model for target in targets):
        same = [target for target in targets if target.model == model]
        for place, attack in enumerate((*same[0].attacks, *same[0].controls)):
            found = [(*target.attacks, *target.controls)[place] for target in same]
            metrics = {key: _mean([one.metrics[key] for one in found]) for key in attack.metrics}
            spread = Spread(sd=0.031, participants=4e-4, trainings=None, designs=6e-4, share=0.6)
            rows.append(
                AttackSummary(
                    name=attack.name,
                    model=model,
                    n_targets=len(same),
                    metrics=metrics,
                    spread=spread if len(same) > 1 else None,
                )
            )
    return rows


def _mean(metrics: list[Metric]) -> Metric:
    if any(one.value is None for one in metrics):
        return metrics[0]
    value, low, high = (
        float(np.mean([getattr(one, key) for one in metrics])) for key in ("value", "low", "high")
    )
    shrink = 1 / np.sqrt(len(metrics))
    return metrics[0].model_copy(
        update={
            "value": value,
            "low": value - (value - low) * shrink,
            "high": value + (high - value) * shrink,
            "method": "bootstrap over targets and participants",
        }
    )


def _verdict(wanted: Fabrication, targets: list[Target]) -> Verdict:
    auc = targets[0].attacks[0].metrics["auc"]
    numbers = {"auc": auc.value or 0.0, "low": auc.low or 0.0, "high": auc.high or 0.0}
    refused = wanted.outcome == "refused"
    return Verdict.model_validate(
        {
            "outcome": wanted.outcome,
            "sentence": OUTCOMES[wanted.outcome].format(**numbers),
            "reasons": ["Members' MAE 6.1 years is not clearly below the null MAE 6.2 years."]
            if refused
            else [],
            "primary_attack": wanted.attacks[0].name,
            "auc": None if refused else auc,
            "minimal_detectable_auc": None if refused else 0.556,
            "tolerated_auc": 0.55,
        }
    )


def _config(wanted: Fabrication) -> dict[str, object]:
    return {
        "title": wanted.title,
        "cohort": {
            "kind": "simulated",
            "participants": 660,
            "voxel_mm": 4.0,
            "sites": ["A", "B"],
            "rescan": None,
        },
        "training": {"epochs": 24, "batch_size": 8, "learning_rate": 1e-4, "weight_decay": 1e-4},
        "attacks": {"names": [recipe.name for recipe in wanted.attacks], "repeats": wanted.repeats},
    }


def _cohort(wanted: Fabrication) -> CohortSummary:
    return CohortSummary(
        name="Simulated brains" if wanted.simulated else "Clinic cohort",
        is_simulated=wanted.simulated,
        participants=660,
        scans=660,
        grid_shape=[46, 55, 46],
        voxel_mm=4.0,
        age_mean=62.6,
        age_sd=7.4,
        age_min=45.2,
        age_max=80.1,
        sites={"A": 402, "B": 258},
        history=["canonical orientation", "resampled to 4 mm", "z-score over all voxels"],
        skipped=["8c1f09aa: image is empty", "77ab02de: age is missing"],
    )


def _pictures(wanted: Fabrication, rng: np.random.Generator) -> tuple[np.ndarray | None, tuple[str, ...]]:
    if not wanted.slices:
        return None, ()
    y, x = np.mgrid[-1:1:55j, -1:1:55j]
    ring = np.hypot(x, 1.2 * y)
    head = 150 * (ring < 0.8) + 60 * (ring < 0.65) - 120 * (np.hypot(3 * x, 2 * y) < 0.4)
    noise = rng.normal(0, 9, (wanted.slices, 3, 55, 55)) * (ring < 0.8)
    captions = tuple(f"Simulated, {age} years" for age in (48, 63, 79, 55, 70, 61)[: wanted.slices])
    return (head + noise).clip(0, 255).astype(np.uint8), captions
