"""From scores of every learner to ``FederationResults``: pairs, controls, excess, and what they mean."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from privoxel.attacks.base import Attack
from privoxel.cohort.partitions import UNSEEN
from privoxel.evaluation.federation_results import (
    FederationResults,
    LearnerFacts,
    LeftOut,
    PairMatrix,
    RoundFacts,
    RoundPoint,
)
from privoxel.evaluation.metrics import to_metric
from privoxel.evaluation.pairs import (
    PairDraws,
    cells,
    difference,
    mean_over_attackers,
    mean_over_pairs,
    successful_pairs,
)
from privoxel.evaluation.results import CohortSummary, Utility
from privoxel.recipes.federation.attacking import (
    AGE,
    AGE_LOGISTIC,
    ANY_ROUND,
    CONTROLS,
    COVARIATES,
    Attackers,
    Scores,
    chosen_sets,
)
from privoxel.recipes.federation.findings import findings
from privoxel.recipes.federation.further import further_attacks
from privoxel.recipes.federation.judging import Judge, judge_of, matched_judge_of
from privoxel.recipes.federation.observing import Site, Watched
from privoxel.recipes.reproduction.published import (
    FIGURE_2,
    IID,
    TABLE_5,
    published_pairs,
)

ACCURACY, AUC = "balanced_accuracy", "auc"
TITLES = {
    AGE: "Age alone, by the attack's own classifier",
    AGE_LOGISTIC: "Age alone, by logistic regression",
    COVARIATES: "Age, sex and site, by logistic regression",
}
LEVEL = 0.95
LEARNED = 0.95
"""A federation has learned when its test MAE, with two standard errors, is below this share of the null."""


def conclude(
    site: Site,
    watched: Watched,
    attackers: Attackers,
    controls: Sequence[tuple[str, Attackers]],
    *,
    cohort: CohortSummary,
    facts: Mapping[str, Any],
) -> FederationResults:
    """Return the results; privacy numbers only if the federation has learned.

    ``controls`` holds, by victim, the same attacks on the federation that the victim took no part in.
    """
    utility = utility_of(site, watched)
    refusal = "" if _has_learned(site, watched, utility) else _refusal(utility)
    results = FederationResults(
        title=site.config.title,
        created=facts["created"],
        versions=facts["versions"],
        machine=facts["machine"],
        seed=site.config.seed,
        config=site.config.to_dict(),
        cohort=cohort,
        environment=site.partition.environment,
        learners=[_learner(site, watched, name) for name in site.partition.learners],
        unseen=_learner(site, watched, UNSEEN),
        rounds=_rounds(site, watched),
        utility=utility,
        has_learned=not refusal,
        refusal=refusal,
        seconds=facts["seconds"],
    )
    if refusal:
        return results
    judge, matched = judge_of(site, attackers.judged), matched_judge_of(site, attackers.judged)
    matrices = _matrices(site, attackers, judge, matched)
    return results.model_copy(
        update={
            "matrices": matrices,
            "by_round": _by_round(site, attackers, judge),
            "further": further_attacks(site, watched, attackers, judge),
            "left_out": _left_out(site, attackers, controls, judge),
            "findings": findings(matrices, f"set-{site.config.attack.primary}"),
        }
    )


def utility_of(site: Site, watched: Watched, place: int = -1) -> Utility:
    """Return the errors (years) of the community model after the round at ``place``."""
    inside = float(watched.absolute_error(site.members, place).mean())
    outside = float(watched.absolute_error(site.unseen, place).mean())
    ages = site.cohort.covariates.age
    null = float(np.abs(ages[site.unseen] - ages[site.members].mean()).mean())
    return Utility(members=inside, non_members=outside, null=null, gap=outside - inside)


def _has_learned(site: Site, watched: Watched, utility: Utility) -> bool:
    errors = watched.absolute_error(site.unseen)
    standard_error = float(errors.std(ddof=1)) / np.sqrt(len(errors))
    return bool((utility.non_members or np.inf) + 2 * standard_error < LEARNED * utility.null)


def _refusal(utility: Utility) -> str:
    return (
        f"The last community model errs by {utility.non_members:.2f} years on unseen scans, predicting the "
        f"mean age by {utility.null:.2f}: it has not clearly learned, and an attack that finds nothing in it "
        "proves nothing. Train for more rounds, or with other local settings."
    )


def _learner(site: Site, watched: Watched, name: str) -> LearnerFacts:
    rows = site.partition.rows(site.cohort, name)
    ages = site.cohort.covariates.age[rows]
    return LearnerFacts(
        name=name,
        participants=len(site.partition.participants(name)),
        scans=len(rows),
        age_mean=float(ages.mean()),
        age_sd=float(ages.std()),
        mae=float(watched.absolute_error(rows).mean()),
    )


def _rounds(site: Site, watched: Watched) -> list[RoundFacts]:
    places = {number: place for place, number in enumerate(watched.rounds)}
    found = []
    for entry in watched.participation:
        place = places.get(entry.number)
        utility = None if place is None else utility_of(site, watched, place)
        found.append(
            RoundFacts(
                number=entry.number,
                took_part=list(entry.took_part),
                left_out=entry.left_out(),
                train_mae=utility.members if utility else None,
                test_mae=utility.non_members if utility else None,
            )
        )
    return found


def _matrices(site: Site, attackers: Attackers, judge: Judge, matched: Judge) -> list[PairMatrix]:
    """Return attacks, controls and excesses, and the same among people of equal ages."""
    primary, title = f"set-{site.config.attack.primary}", f"Set {site.config.attack.primary}"
    attacks = {one.name: judge.accuracies(attackers.attacks[one.name]) for one in chosen_sets(site)}
    found = [
        _matrix(site, one.name, one.title.capitalize(), "attack", attacks[one.name])
        for one in chosen_sets(site)
    ]
    found.append(
        _matrix(
            site,
            f"{primary}-auc",
            f"{title}: AUC",
            "attack",
            judge.aucs(attackers.attacks[primary].values),
            metric=AUC,
        )
    )
    largest = judge.accuracies(attackers.attacks[ANY_ROUND])
    found.append(_matrix(site, ANY_ROUND, f"{title}: largest logit of any round", "attack", largest))
    controls = {name: judge.accuracies(attackers.attacks[name]) for name in CONTROLS}
    found += [_matrix(site, name, TITLES[name], "control", controls[name]) for name in CONTROLS]
    best = strongest(controls)
    found += [
        _matrix(
            site,
            f"{one.name}-excess",
            f"Set {one.name[-1]} minus the strongest control ({TITLES[best].lower()})",
            "excess",
            difference(attacks[one.name], controls[best]),
        )
        for one in chosen_sets(site)
    ]
    if all(len(rows) for rows in matched.groups.members):
        found += _matched_matrices(site, attackers, matched)
    return found


def _matched_matrices(site: Site, attackers: Attackers, matched: Judge) -> list[PairMatrix]:
    """Return attacks, strongest control and excesses where unseen participants have the victim's ages.

    The primary set comes first. The intervals of the other sets' excesses are widened for their number
    (Bonferroni), so that they can be looked at together.
    """
    controls = {name: matched.accuracies(attackers.attacks[name]) for name in CONTROLS}
    best = strongest(controls)
    primary, others = _primary_and_others(site)
    found = []
    for one in (primary, *others):
        attack = matched.accuracies(attackers.attacks[one.name])
        excess = difference(attack, controls[best])
        level = LEVEL if one is primary else 1 - (1 - LEVEL) / len(others)
        title = f"Set {one.name[-1]}, equal ages"
        beyond = _matrix(site, f"{one.name}-matched-excess", f"{title}, minus that control", "excess", excess)
        found += [
            _matrix(site, f"{one.name}-matched", f"{title}: unseen of the victim's ages", "attack", attack),
            beyond.model_copy(update={"mean_all": to_metric(mean_over_pairs(excess, level))}),
        ]
    control = _matrix(site, f"{best}-matched", f"{TITLES[best]}, equal ages", "control", controls[best])
    return [found[0], control, *found[1:]]


def _primary_and_others(site: Site) -> tuple[Attack, list[Attack]]:
    primary = f"set-{site.config.attack.primary}"
    sets = chosen_sets(site)
    return next(one for one in sets if one.name == primary), [one for one in sets if one.name != primary]


def strongest(controls: Mapping[str, PairDraws]) -> str:
    """Return the control with the highest mean over all pairs: what an attack must beat to show a leak."""
    return max(controls, key=lambda name: float(np.nanmean(controls[name].observed)))


def _matrix(
    site: Site,
    name: str,
    title: str,
    kind: Any,
    draws: PairDraws,
    metric: str = ACCURACY,
) -> PairMatrix:
    successes = successful_pairs(draws) if kind != "excess" else None
    published, pairs = _published(site, name)
    return PairMatrix(
        name=name,
        title=title,
        kind=kind,
        metric=metric,
        cells=[[None if e is None else to_metric(e) for e in row] for row in cells(draws)],
        mean_all=to_metric(mean_over_pairs(draws)),
        mean_successful=None if successes is None else successes.mean,
        successes=None if successes is None else successes.pairs,
        paper_all=pairs,
        paper_successful=None if published is None else published.accuracy,
        paper_successes=None if published is None else published.pairs,
    )


def _published(site: Site, name: str) -> tuple[Any, float | None]:
    """Return the paper's row of Table 5 for a feature set, and its mean over all pairs where it has one."""
    key = (site.config.model.name, site.partition.environment)
    number = {f"set-{k}": k for k in (1, 2, 3)}.get(name)
    if number is None:
        return None, None
    pairs = published_pairs(*key) if number == 3 else {}
    return TABLE_5.get((*key, number)), float(np.mean(list(pairs.values()))) if pairs else None


def _by_round(site: Site, attackers: Attackers, judge: Judge) -> list[RoundPoint]:
    """Return the mean over pairs on each round's model alone; the paper's figure 2 counts rounds from 0."""
    curve = FIGURE_2.get(site.config.model.name, ()) if site.partition.environment == IID else ()
    return [
        RoundPoint(
            round=number,
            mean_all=to_metric(mean_over_pairs(judge.accuracies(scores))),
            paper=curve[number - 1] if number <= len(curve) else None,
        )
        for number, scores in attackers.rounds.items()
    ]


def _left_out(
    site: Site, attackers: Attackers, controls: Sequence[tuple[str, Attackers]], judge: Judge
) -> list[LeftOut]:
    """Return each victim's mean over the attackers, with and without its part in the federation."""
    primary = f"set-{site.config.attack.primary}"
    found = []
    for victim, without in controls:
        place = site.partition.learners.index(victim)
        rows = [attackers.learners.index(name) for name in without.learners]
        with_it = attackers.attacks[primary]
        took_part = judge.accuracies(Scores(with_it.values[rows], with_it.thresholds[rows]))
        took_none = judge.accuracies(without.attacks[primary])
        found.append(
            LeftOut(
                victim=victim,
                attack=to_metric(mean_over_attackers(took_part, place)),
                without=to_metric(mean_over_attackers(took_none, place)),
                excess=to_metric(mean_over_attackers(difference(took_part, took_none), place)),
            )
        )
    return found
