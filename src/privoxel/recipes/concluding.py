"""What follows from all targets together: a summary of every attack, and the verdict."""

from collections.abc import Sequence

import numpy as np

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.attacks import get_attack
from privoxel.config import RunConfig
from privoxel.evaluation.combine import all_over_targets, over_targets
from privoxel.evaluation.comparison import components_over_targets
from privoxel.evaluation.excess import excess_of_chosen, excess_over
from privoxel.evaluation.intervals import auc_contributions, effective_participants
from privoxel.evaluation.metrics import to_metric
from privoxel.evaluation.results import AttackSummary, Spread, Target, Utility, Verdict
from privoxel.evaluation.scored import Estimate, Evaluated
from privoxel.evaluation.verdict import Candidate, VerdictInputs, decide, excess_counts
from privoxel.recipes.choosing import Chosen, best_of, of_no_more_access, shared_attacks
from privoxel.recipes.judging import COVARIATES_BEST, COVARIATES_ONLY, PSEUDO_MEMBERS, Judged
from privoxel.recipes.published import published_accuracy
from privoxel.recipes.shadow_plans import threat_model_of
from privoxel.seeding import Streams


def summarise(
    judged: Sequence[Judged], config: RunConfig, known: Sequence[Target] = ()
) -> list[AttackSummary]:
    """Return every attack and control averaged over the targets of each model.

    ``known`` holds targets whose estimates are made already: the only target of a model keeps them.
    """
    found = {target.name: target for target in known}
    return [
        _alone(name, found[mine[0].plan.name])
        if len(mine) == 1 and mine[0].plan.name in found
        else _summary(name, mine, config)
        for mine in by_model(judged)
        for name in (*mine[0].scores.evaluated, *mine[0].scores.controls)
        if _all_have(mine, name)
    ]


def by_model(judged: Sequence[Judged]) -> list[list[Judged]]:
    """Return the targets grouped by model, in the order of the models."""
    models = dict.fromkeys(one.plan.model.name for one in judged)
    return [[one for one in judged if one.plan.model.name == model] for model in models]


def _summary(name: str, targets: Sequence[Judged], config: RunConfig) -> AttackSummary:
    model = targets[0].plan.model.name
    rng = Streams(config.seed).generator(f"bootstrap/summary/{model}/{name}")
    estimates = all_over_targets([_scores(one, name) for one in targets], rng)
    paper = published_accuracy(model, name)
    metrics = {
        key: to_metric(estimate, paper=paper if key == "balanced_accuracy" else None)
        for key, estimate in estimates.items()
    }
    return AttackSummary(
        name=name, model=model, n_targets=len(targets), metrics=metrics, spread=_spread(name, targets)
    )


def _spread(name: str, targets: Sequence[Judged]) -> Spread | None:
    """Return how far the attack's AUC differs between targets; those of one design differ by training."""
    scores = [_scores(one, name) for one in targets]
    designs = [(one.plan.design.members, one.plan.design.non_members) for one in targets]
    found = components_over_targets(scores, designs=designs)
    if found is None:
        return None
    values = [auc_contributions(one).auc.mean() for one in scores]
    sd = float(np.std(values, ddof=1))
    return Spread(sd=sd, **found._asdict(), share=found.beyond_participants)


def _alone(name: str, target: Target) -> AttackSummary:
    metrics = next(one.metrics for one in (*target.attacks, *target.controls) if one.name == name)
    return AttackSummary(name=name, model=target.model, n_targets=1, metrics=metrics)


def _all_have(targets: Sequence[Judged], name: str) -> bool:
    return all(name in one.scores.evaluated or name in one.scores.controls for one in targets)


def _scores(one: Judged, name: str) -> Evaluated:
    return one.scores.evaluated[name] if name in one.scores.evaluated else one.scores.controls[name]


def verdict_of(judged: Sequence[Judged], config: RunConfig, best: Sequence[Chosen] = ()) -> Verdict:
    """Return the gravest verdict on any of the models.

    A leak in one model is a leak; none above the limit needs all models to say so. With several models each
    interval is widened (Bonferroni). ``best`` holds what was chosen among attacks already.
    """
    groups = by_model(judged)
    level = 1.0 - 0.05 / len(groups)
    verdicts = [
        decide(_inputs(mine, _over(mine, config.attacks.primary, config, level), config, best))
        for mine in groups
    ]
    worst = min(range(len(groups)), key=lambda k: _gravity(verdicts[k]))
    verdict, model = verdicts[worst], groups[worst][0].plan.model.name
    note = f"The verdict is the gravest of {len(groups)} models, {model}; its interval is wider for that"
    extra = [note] if len(groups) > 1 else []
    if not _all_have(groups[worst], PSEUDO_MEMBERS):
        extra.append("There are too few non-members for the pseudo-member control")
    return verdict.model_copy(update={"reasons": [*verdict.reasons, *extra]})


GRAVITY = ("leak shown", "refused", "inconclusive", "no leak above the limit")


def _gravity(verdict: Verdict) -> tuple[int, float]:
    low = verdict.auc.low if verdict.auc is not None and verdict.auc.low is not None else 0.0
    return GRAVITY.index(verdict.outcome), -low


def _over(targets: Sequence[Judged], name: str, config: RunConfig, level: float = 0.95) -> Estimate:
    model = targets[0].plan.model.name
    rng = Streams(config.seed).generator(f"bootstrap/verdict/{model}/{name}")
    return over_targets([_scores(one, name) for one in targets], "auc", rng=rng, level=level)


def _inputs(
    targets: Sequence[Judged], auc: Estimate, config: RunConfig, best: Sequence[Chosen]
) -> VerdictInputs:
    primary = config.attacks.primary
    members_se, non_members_se = _standard_errors(targets)
    n_members, n_non_members = np.min(
        [effective_participants(_scores(one, primary)) for one in targets], axis=0
    )
    covariates = [one.scores.controls[COVARIATES_BEST] for one in targets]
    control = _over(targets, COVARIATES_ONLY, config, auc.level)
    at_best = _over(targets, COVARIATES_BEST, config, auc.level)
    return VerdictInputs(
        primary_attack=primary,
        auc=auc,
        n_members=n_members,
        n_non_members=n_non_members,
        utility=_mean_utility([one.utility for one in targets]),
        access=str(threat_model_of(get_attack(primary), config)),
        members_mae_se=members_se,
        non_members_mae_se=non_members_se,
        control=control,
        covariates=at_best,
        excess=excess_over([_scores(one, primary) for one in targets], covariates, level=auc.level),
        null=_over(targets, PSEUDO_MEMBERS, config) if _all_have(targets, PSEUDO_MEMBERS) else None,
        tolerated_auc=config.report.tolerated_auc,
        best=_candidate(targets, auc.level, config, best, with_excess=excess_counts(control, at_best)),
    )


def _candidate(
    targets: Sequence[Judged],
    level: float,
    config: RunConfig,
    known: Sequence[Chosen],
    *,
    with_excess: bool,
) -> Candidate | None:
    """Return the best attack of no more access than the primary one, corrected for the choice."""
    names = of_no_more_access(shared_attacks(targets), config.attacks.primary)
    found = best_of(targets, names, config, level=level, known=known)
    if found is None:
        return None
    if not with_excess:
        return Candidate(found.record, found.auc)
    rng = Streams(config.seed).generator(f"excess/{found.record.model}/{','.join(names)}")
    scores = [{name: one.scores.evaluated[name] for name in names} for one in targets]
    covariates = [one.scores.controls[COVARIATES_BEST] for one in targets]
    excess = excess_of_chosen(found.record.name, scores, covariates, rng, level=level)
    return Candidate(found.record, found.auc, excess)


def _mean_utility(utilities: Sequence[Utility]) -> Utility:
    def mean(name: str) -> float | None:
        values = [getattr(utility, name) for utility in utilities]
        return None if any(value is None for value in values) else float(np.mean(values))

    return Utility.model_validate({name: mean(name) for name in Utility.model_fields})


def _standard_errors(targets: Sequence[Judged]) -> tuple[float, float]:
    """Return the standard errors of the members' and the non-members' MAE (years), mean over targets.

    A participant's scans are averaged first.
    """
    errors = []
    for one in targets:
        error = np.abs(one.scores.prediction - one.scores.age)
        groups = (one.scores.members, ~one.scores.members)
        means = [_by_participant(error, one.scores.participants, group) for group in groups]
        errors.append([float(group.std(ddof=1)) / np.sqrt(len(group)) for group in means])
    members, non_members = np.mean(errors, axis=0)
    return float(members), float(non_members)


def _by_participant(error: FloatArray, people: IntArray, group: BoolArray) -> FloatArray:
    """Return the mean error of each participant of the group."""
    codes = np.unique(people[group], return_inverse=True)[1]
    return np.bincount(codes, error[group]) / np.bincount(codes)
