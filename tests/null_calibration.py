"""How often attacks are called better than guessing on targets that never saw the "members".

Each target is attacked and judged exactly as a run does it: the adversary's draws of an audit, everyone who
is not leaked evaluated. A false alarm is a one-sided 5 % test that rejects: the lower end of the 90 %
interval that the product reports lies above what guessing reaches. With members of another age what counts is
the control: the excess of the AUC over that of the covariates alone, and every metric among people of the
same age.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from scipy import special

from privoxel.attacks import CONTROLS
from privoxel.attacks.base import Attack, needs_models, needs_one_shadow
from privoxel.cohort.matching import age_matched
from privoxel.evaluation.draws import audit_draws
from privoxel.evaluation.excess import excess_of_chosen
from privoxel.evaluation.intervals import clopper_pearson, effective_participants
from privoxel.evaluation.metrics import (
    auc,
    balanced_accuracy,
    fewest_non_members,
    non_members_needed,
    ones_like,
    paired_auc_difference,
    statistic_of,
    tpr_at_fpr,
)
from privoxel.evaluation.scored import Evaluated
from privoxel.evaluation.selection import best_of_many
from privoxel.progress import Silent
from privoxel.recipes.attacking import Crew, run_attacks
from privoxel.recipes.covariate_control import best_of_covariates
from privoxel.seeding import Streams
from tests.null_targets import NullTarget

LEAKED = 30
LEVEL = 0.9
DRAWS = 300
RATES = {"tpr_at_fpr_0.01": 0.01, "tpr_at_fpr_0.05": 0.05}
CONTROL = CONTROLS["covariates-only"]
AT_BEST = "covariates at their best"
BEST = "best of many"
EXCESS, MATCHED = "auc minus control", "same age: "


class Alarm(NamedTuple):
    """Whether one cell's test rejected, and the estimate."""

    raised: bool
    value: float


def scores_of(
    target: NullTarget, attacks: Iterable[Attack], seed: int, *, attackers: int = 4
) -> dict[str, Evaluated]:
    """Return the scores of attacks and of both controls for the draws of an audit with so many attackers."""
    table, streams = target.table, Streams(seed)
    people = {scan.participant: code for code, scan in enumerate(table.scans)}
    codes = table.covariates.participant_index
    rng = streams.generator("draws")
    draws = audit_draws(table.membership[0], codes, folds=attackers, cap=LEAKED, rng=rng)
    crew = Crew(streams, people, 1, Silent())
    found = run_attacks(
        (*attacks, CONTROL), table, draws, crew=crew, models_for=lambda attack: _models(attack, target)
    )
    scores = {name: attacked.evaluated for name, attacked in found.items()}
    return scores | {AT_BEST: best_of_covariates(table, draws, crew).evaluated}


def _models(attack: Attack, target: NullTarget):
    if not needs_models(attack):
        return None
    return target.shadow if needs_one_shadow(attack) else target.references


def alarms(evaluated: Evaluated, rng: np.random.Generator) -> dict[str, Alarm]:
    """Return for AUC, balanced accuracy and two TPRs whether the test rejects; without a value, nothing."""
    area = auc(evaluated, LEVEL)
    found = {"auc": Alarm(area.low > 0.5, area.value)}
    accuracy = float(statistic_of("balanced_accuracy")(evaluated, ones_like(evaluated))[0])
    # An interval holds its value, so that no test below one half can reject.
    raised = accuracy > 0.5 and balanced_accuracy(evaluated, rng, draws=DRAWS, level=LEVEL).low > 0.5
    found["balanced_accuracy"] = Alarm(raised, accuracy)
    for name, fpr in RATES.items():
        if fewest_non_members(evaluated) >= non_members_needed(fpr):
            rate = float(statistic_of(name)(evaluated, ones_like(evaluated))[0])
            found[name] = Alarm(_tpr_rejects(evaluated, fpr, rate, rng), rate)
    return found


def _tpr_rejects(evaluated: Evaluated, fpr: float, rate: float, rng: np.random.Generator) -> bool:
    """Return whether the whole interval lies above; its lower end is at most the exact binomial one."""
    exact = clopper_pearson(rate, effective_participants(evaluated)[0], LEVEL)[0]
    return exact > fpr and tpr_at_fpr(evaluated, fpr, rng=rng, draws=DRAWS, level=LEVEL).low > fpr


def controlled_alarms(
    evaluated: Evaluated, control: Evaluated, ages: np.ndarray, rng: np.random.Generator
) -> dict[str, Alarm]:
    """Return the alarms that are left once the control is applied: excess, and among the same ages."""
    excess = paired_auc_difference(evaluated, control, level=LEVEL)
    found = {EXCESS: Alarm(excess.low > 0.0, excess.value)}
    matched = alarms(of_the_same_age(evaluated, ages), rng)
    return found | {MATCHED + name: alarm for name, alarm in matched.items()}


def of_the_same_age(evaluated: Evaluated, ages: np.ndarray) -> Evaluated:
    """Return the scores of members and as many non-members of their ages; who has no partner is left out."""
    members, others = np.flatnonzero(evaluated.members), np.flatnonzero(~evaluated.members)
    pairs = age_matched(ages[others], ages[members], np.random.default_rng(0))
    kept = np.zeros(len(ages), dtype=np.bool_)
    kept[others[pairs.unseen]] = kept[members[pairs.reference]] = True
    scores = np.where(kept, evaluated.scores, np.nan)
    return Evaluated(scores, evaluated.thresholds, evaluated.members, evaluated.participants)


def all_alarms(
    target: NullTarget, scores: Mapping[str, Evaluated], seed: int, *, shifted: bool, best: bool = True
) -> dict[str, dict[str, Alarm]]:
    """Return every attack's alarms on one target and, if asked, those of the best."""
    found = {}
    for name, evaluated in scores.items():
        if name == AT_BEST:
            continue
        rng = np.random.default_rng([seed, 3])
        found[name] = alarms(evaluated, rng)
        if shifted and name != CONTROL.name:
            found[name] |= controlled_alarms(evaluated, scores[AT_BEST], target.table.age, rng)
    if best:
        found[BEST] = best_alarms(scores, np.random.default_rng([seed, 4]), shifted=shifted)
    return found


def best_alarms(
    scores: Mapping[str, Evaluated], rng: np.random.Generator, *, shifted: bool
) -> dict[str, Alarm]:
    """Return the alarms of the best attack, corrected for the choice: with a shift that of its excess."""
    attacks = {name: one for name, one in scores.items() if name not in {CONTROL.name, AT_BEST}}
    chosen = best_of_many(attacks, rng, draws=99, level=LEVEL)
    if shifted:
        excess = excess_of_chosen(chosen.name, [attacks], [scores[AT_BEST]], rng, level=LEVEL)
        return {EXCESS: Alarm(excess.low > 0.0, excess.value)}
    return {
        "max-T p-value": Alarm(chosen.p_value <= 0.05, chosen.p_value),
        "auc": Alarm(chosen.auc.low > 0.5, chosen.auc.value),
    }


def lower_limit(raised: int, targets: int, cells: int) -> float:
    """Return the exact lower limit of a false-alarm rate, one-sided 5 % shared among ``cells``."""
    return float(special.betaincinv(raised, targets - raised + 1.0, 0.05 / cells)) if raised else 0.0
