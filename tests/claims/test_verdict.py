"""The verdict's promises: how rarely it calls a leak where there is none, and how often it finds one."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, norm

from privoxel.evaluation.detectable import minimal_detectable_auc
from privoxel.evaluation.excess import excess_of_chosen, excess_over
from privoxel.evaluation.metrics import auc, to_metric
from privoxel.evaluation.results import BestAttack, Utility
from privoxel.evaluation.scored import Evaluated
from privoxel.evaluation.selection import best_of_many
from privoxel.evaluation.verdict import Candidate, VerdictInputs, decide
from tests.scores import Design, one_repeat, simulate

pytestmark = pytest.mark.slow

WORKING = Utility(members=1.4, non_members=3.1, null=6.25, gap=1.7)
REPETITIONS = 300


def shows_a_leak(evaluated: Evaluated, *, level: float = 0.95, **more: object) -> bool:
    """Return whether the verdict on this attack is that there is a leak."""
    inputs = VerdictInputs(
        "attack0", auc(evaluated, level), evaluated.n_members, evaluated.n_non_members, WORKING
    )
    return decide(replace(inputs, **more)).outcome == "leak shown"


@pytest.mark.parametrize(
    ("members", "non_members", "level"),
    [(40, 60, 0.95), (150, 150, 0.95), (300, 90, 0.95), (100, 100, 0.975)],
)
def test_the_minimal_detectable_auc_is_found_in_four_of_five_audits(members, non_members, level):
    limit = minimal_detectable_auc(members, non_members, level=level)
    shift = math.sqrt(2.0) * float(norm.ppf(limit))
    design, rng = Design(members=members, non_members=non_members, shift=shift), np.random.default_rng(24)
    found = [shows_a_leak(simulate(design, rng), level=level) for _ in range(1000)]
    assert 0.76 <= np.mean(found) <= 0.86


def of_another_age(
    attacks: int, shift: float, rng: np.random.Generator
) -> tuple[dict[str, Evaluated], Evaluated]:
    """Return attacks and a control that read age alone, equally well; members are older by ``shift`` SD."""
    age = rng.normal(size=200) + shift * (np.arange(200) < 100)
    scores = age + 0.65 * rng.normal(size=(attacks + 1, 200))
    *found, control = (one_repeat(row[:100], row[100:]) for row in scores)
    return {f"attack{k}": one for k, one in enumerate(found)}, control


def chosen(attacks: dict[str, Evaluated], control: Evaluated, rng: np.random.Generator) -> Candidate:
    """Return the best of ``attacks`` as a run hands it to the verdict."""
    best = best_of_many(attacks, rng, draws=19)
    record = BestAttack(
        name=best.name,
        title=best.name,
        threat_model="black-box",
        model="model",
        n_targets=1,
        candidates=best.candidates,
        auc=to_metric(best.auc),
        p_value=best.p_value,
    )
    return Candidate(record, best.auc, excess_of_chosen(best.name, [attacks], [control], rng))


@pytest.mark.parametrize("shift", [0.15, 0.3, 0.8])
def test_what_age_explains_is_called_a_leak_in_no_more_audits_than_promised(shift):
    """Half as many by the primary attack as by both routes; uncorrected it was 10 % by either."""
    rng, primary, either = np.random.default_rng([61, round(100 * shift)]), 0, 0
    for _ in range(REPETITIONS):
        attacks, control = of_another_age(20, shift, rng)
        first = attacks["attack0"]
        known = {"control": auc(control), "excess": excess_over([first], [control])}
        primary += shows_a_leak(first, **known)
        either += shows_a_leak(first, best=chosen(attacks, control, rng), **known)
    assert primary <= binom.isf(1e-3, REPETITIONS, 0.025)
    assert either <= binom.isf(1e-3, REPETITIONS, 0.05)
