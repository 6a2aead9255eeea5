"""From judged targets to ``Results``: estimates with intervals, controls beside them, and a verdict."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from threadpoolctl import threadpool_limits

from privoxel.arrays import IntArray
from privoxel.attacks import CONTROLS, get_attack
from privoxel.config import RunConfig
from privoxel.evaluation.metrics import all_metrics, auc, to_metric
from privoxel.evaluation.prevalence import precision_of
from privoxel.evaluation.results import (
    PRECISION,
    AttackResult,
    CohortSummary,
    Metric,
    OtherScans,
    Results,
    RiskSummary,
    SessionCount,
    Target,
)
from privoxel.evaluation.scored import Evaluated
from privoxel.evaluation.survival import restricted, surviving_share
from privoxel.evaluation.utility import mean_errors
from privoxel.recipes.choosing import best_attacks
from privoxel.recipes.comparing import compared_attacks
from privoxel.recipes.concluding import by_model, summarise, verdict_of
from privoxel.recipes.judging import COVARIATES_BEST, COVARIATES_ONLY, PSEUDO_MEMBERS, Judged
from privoxel.recipes.lower_bounds import privacy_losses
from privoxel.recipes.published import published_accuracy
from privoxel.recipes.shadow_plans import threat_model_of
from privoxel.report.wording import trained_sessions_in_words
from privoxel.seeding import Streams

logger = logging.getLogger(__name__)

NULL_TARGET = "null_target"
CONTROL_TITLES = {
    COVARIATES_ONLY: "Age, sex and site only",
    COVARIATES_BEST: "Age, sex and site at their best",
    PSEUDO_MEMBERS: "Non-members in two random halves",
}
UNLIKE = Metric(
    value=None,
    reason="age, sex and site alone rank these members above these non-members: what survives may be that",
)


def assemble_results(  # noqa: PLR0913 - all that results are made of
    judged: Sequence[Judged],
    *,
    config: RunConfig,
    cohort: CohortSummary,
    facts: Mapping[str, Any],
    risk: Sequence[RiskSummary] = (),
    workers: int = 1,
    drawn: bool = True,
) -> Results:
    """Return the results of a run; null targets appear as controls of the targets they stand beside.

    ``drawn``: members were drawn at random from the people who are judged, as a run draws them.
    Estimates are made by ``workers`` threads, each from a stream of its own: their number changes nothing.
    """
    real = [one for one in judged if not one.plan.is_null]
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        choosing = pool.submit(best_attacks, real, config)
        comparing = pool.submit(compared_attacks, by_model(real))
        targets = [_target(one, _null_beside(one, judged), config, pool) for one in real]
        bounds = [privacy_losses(one, config, len(real), drawn=drawn) for one in real]
        both = zip(targets, bounds, strict=True)
        targets = [target.model_copy(update={"epsilon": found}) for target, found in both]
        for words in dict.fromkeys(
            trained_sessions_in_words(target.trained_sessions)
            for target in targets
            if target.trained_sessions
        ):
            logger.info(words)
        best, comparisons = choosing.result(), comparing.result()
    return Results(
        title=config.report.title,
        created=facts["created"],
        versions=facts["versions"],
        machine=facts["machine"],
        seed=config.seed,
        config=config.to_dict(),
        cohort=cohort,
        targets=targets,
        summary=summarise(real, config, targets),
        verdict=verdict_of(real, config, best),
        best=[chosen.record for chosen in best],
        comparisons=comparisons,
        risk=list(risk),
        seconds=facts["seconds"],
    )


def _null_beside(one: Judged, judged: Sequence[Judged]) -> Judged | None:
    same = (other for other in judged if other.plan.is_null and other.plan.name == f"{one.plan.name}-null")
    return next(same, None)


def _target(one: Judged, null: Judged | None, config: RunConfig, pool: ThreadPoolExecutor) -> Target:
    design = one.plan.design
    scored = {name: (name, one, scores) for name, scores in one.scores.evaluated.items()}
    scored |= {name: (name, one, scores) for name, scores in one.scores.controls.items()}
    if null is not None:
        beside = null.scores.evaluated.items()
        scored |= {f"{NULL_TARGET}:{name}": (name, null, scores) for name, scores in beside}
    estimated = list(pool.map(lambda key: _attack_result(key, *scored[key], config), scored))
    n_attacks = len(one.scores.evaluated)
    return Target(
        name=one.plan.name,
        model=one.plan.model.name,
        design={
            "number": one.plan.number,
            "protocol": config.attacks.protocol,
            "participants": {
                "members": len(design.members),
                "non_members": len(design.non_members),
                "others": len(design.others),
                "validation": len(design.validation),
                **({"population": len(design.population)} if design.population else {}),
                **({"canaries": len(design.canaries)} if design.canaries else {}),
            },
            **({"defence": dict(one.defence)} if one.defence else {}),
            "null_target_mae": None if null is None else null.utility.model_dump(mode="json"),
        },
        n_members=len(design.members),
        n_non_members=len(design.non_members),
        n_excluded=sum(map(len, (design.others, design.validation, design.population, design.canaries))),
        utility=one.utility,
        errors=_errors(one),
        training=list(one.curve),
        attacks=estimated[:n_attacks],
        controls=estimated[n_attacks:],
        trained_sessions=session_counts(one.sessions, config.report.smallest_group),
        other_scans=_other_scans(one, config),
    )


def session_counts(people: Mapping[str, int], smallest: int) -> list[SessionCount]:
    """Return how many ``people`` have each session; those of fewer than ``smallest`` (dates) in one."""
    counts = [SessionCount(label=label, participants=n) for label, n in people.items() if n >= smallest]
    rest = sum(n for n in people.values() if n < smallest)
    return [*counts, SessionCount(label=None, participants=rest)] if rest else counts


def _errors(one: Judged) -> dict[str, Metric]:
    """Return the model's mean absolute errors and their gap, with intervals (years)."""
    scores = one.scores
    found = mean_errors(scores.prediction - scores.age, scores.members, scores.participants)
    return {name: to_metric(estimate) for name, estimate in found._asdict().items()}


def _other_scans(one: Judged, config: RunConfig) -> list[OtherScans]:
    """Return what survives of each attack chosen for other scans of the same people, or why none is told."""
    found = [_surviving(name, other, one, config) for name, other in one.scores.other_scans.items()]
    return [*found, *(_not_measured(name, reason, config) for name, reason in one.missed.items())]


def _surviving(name: str, other: Evaluated, one: Judged, config: RunConfig) -> OtherScans:
    rng = Streams(config.seed).generator(f"bootstrap/other-scans/{one.plan.name}/{name}")
    try:
        survival = surviving_share(restricted(one.scores.evaluated[name], other.participants), other, rng)
    except ValueError as error:
        logger.warning("no surviving share of %s on %s: %s", name, one.plan.name, error)
        return _not_measured(name, str(error).rstrip("."), config)
    control = one.scores.controls.get(COVARIATES_BEST)
    reached = {} if control is None else {"covariates": _auc_of(control, other.participants)}
    found = OtherScans(
        name=name,
        title=get_attack(name).title,
        threat_model=str(threat_model_of(get_attack(name), config)),
        n_members=other.n_members,
        n_non_members=other.n_non_members,
        trained_on=to_metric(survival.trained_on),
        other_scan=to_metric(survival.other_scan),
        share=to_metric(survival.share),
        **reached,
    )
    return found if found.are_alike else found.model_copy(update={"share": UNLIKE})


def _auc_of(control: Evaluated, participants: IntArray) -> Metric:
    return to_metric(auc(restricted(control, participants)))


def _not_measured(name: str, reason: str, config: RunConfig) -> OtherScans:
    nothing, attack = Metric(value=None, reason=reason), get_attack(name)
    return OtherScans(
        name=name,
        title=attack.title,
        threat_model=str(threat_model_of(attack, config)),
        n_members=0,
        n_non_members=0,
        trained_on=nothing,
        other_scan=nothing,
        share=nothing,
    )


def _attack_result(key: str, name: str, one: Judged, evaluated: Evaluated, config: RunConfig) -> AttackResult:
    described = _described(name, config)
    facts = one.facts[name]
    is_control = key != name or name in CONTROL_TITLES
    rng = Streams(config.seed).generator(f"bootstrap/{one.plan.name}/{key}")
    paper = None if is_control else published_accuracy(one.plan.model.name, name)
    metrics = {
        metric: to_metric(estimate, paper=paper if metric == "balanced_accuracy" else None)
        for metric, estimate in all_metrics(evaluated, rng).items()
    }
    if not is_control:
        for prevalence in config.report.prevalences:
            metrics[f"{PRECISION}{prevalence:g}"] = to_metric(precision_of(evaluated, prevalence))
    title = described.title
    if name in CONTROL_TITLES:
        title = CONTROL_TITLES[name]
        title += f" ({described.title})" if name == PSEUDO_MEMBERS else ""
    elif key != name:
        title = f"Model without the members ({described.title})"
    return AttackResult(
        name=key,
        title=title,
        threat_model=str(threat_model_of(described, config)),
        signals=sorted(described.requires),
        metrics=metrics,
        n_members=evaluated.n_members,
        n_non_members=evaluated.n_non_members,
        n_leaked=facts.n_leaked,
        repeats=len(evaluated.scores),
        notes=list(facts.notes),
        seconds=facts.seconds,
    )


def _described(name: str, config: RunConfig) -> Any:
    if name in {COVARIATES_ONLY, COVARIATES_BEST}:
        return CONTROLS["covariates-only"]
    return get_attack(config.attacks.primary if name == PSEUDO_MEMBERS else name)
