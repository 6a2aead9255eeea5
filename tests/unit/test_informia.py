from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from privoxel.attacks import get_attack
from privoxel.attacks.base import Knowledge
from privoxel.attacks.informia import NO_POPULATION, InfoRmia
from privoxel.errors import SignalError
from tests.tables import leak, make_references, make_table
from tests.twins import references as twin

RNG = np.random.default_rng(0)


def a_case(*, inside=True):
    table = make_table(members=29, non_members=37, gap=2.0, seed=2)
    split = leak(table, per_class=9)
    models = make_references(table, models=7, gap=2.0, inside=inside)
    return split.target, Knowledge(leaked=split.leaked, models=models)


def population_of(knowledge):
    return knowledge.leaked.select(~knowledge.leaked.is_member())


def residuals(table, models):
    """Return the target's residuals, each reference's on the same scans, and who trained which."""
    rows = [models.scans.index(scan) for scan in table.scans]
    theirs = np.stack([models.error(model=k) for k in range(len(models.models))])
    return table.error(), theirs[:, rows], models.membership[:, rows]


@pytest.mark.parametrize(
    ("attack", "density"),
    [
        (InfoRmia(a=0.0), twin.gaussian),
        (get_attack("informia"), twin.gaussian),
        (InfoRmia(a=1.0), twin.gaussian),
        (get_attack("informia-student"), twin.student),
    ],
    ids=["0.0", "0.3", "1.0", "student"],
)
def test_scores_are_log_ratio_plus_divergence_of_the_loop(attack, density):
    target, knowledge = a_case()
    models = knowledge.models
    everything = np.stack([models.error(model=k) for k in range(7)])
    scale = twin.pooled_sd(everything, models.membership, twin.outs)
    expected = twin.informia(
        residuals(target, models),
        residuals(population_of(knowledge), models),
        scale=scale,
        a=attack.a,
        density=density,
    )
    found = attack.score(target, knowledge, RNG).scores
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("kind", ["", "-student"])
def test_scans_are_ranked_as_by_rmia_and_on_one_scale_whatever_the_population(kind):
    target, knowledge = a_case()
    attack = get_attack(f"informia{kind}")
    scores = attack.score(target, knowledge, RNG).scores
    ranked = get_attack(f"rmia{kind}").score(target, knowledge, RNG).scores
    assert spearmanr(scores, ranked).statistic > 1 - 1e-12
    population = population_of(knowledge)
    fewer = Knowledge(models=knowledge.models, population=population.select(np.arange(len(population)) < 3))
    shift = scores - attack.score(target, fewer, RNG).scores
    np.testing.assert_allclose(shift, shift[0], rtol=0, atol=1e-12)
    assert abs(shift[0]) > 1e-3


def test_the_population_itself_scores_zero_on_its_own_average():
    _, knowledge = a_case(inside=False)
    population = population_of(knowledge)
    alone = Knowledge(models=knowledge.models, population=population)
    scores = InfoRmia().score(population, alone, RNG).scores
    mine, theirs, membership = residuals(population, knowledge.models)
    everything = np.stack([knowledge.models.error(model=k) for k in range(7)])
    scale = twin.pooled_sd(everything, knowledge.models.membership, twin.outs)
    weights = [twin.marginal(twin.outs(theirs, membership, z), scale, 0.3) for z in range(len(mine))]
    assert np.average(scores, weights=weights) == pytest.approx(0.0, abs=1e-12)


def test_without_a_population_the_ranks_stay_and_the_notes_say_what_is_left_out():
    target, knowledge = a_case()
    found = InfoRmia().score(target, Knowledge(models=knowledge.models), RNG)
    shift = InfoRmia().score(target, knowledge, RNG).scores - found.scores
    np.testing.assert_allclose(shift, shift[0], rtol=0, atol=1e-12)
    assert NO_POPULATION in found.notes


def test_a_population_that_every_reference_was_trained_on_is_refused():
    target, knowledge = a_case()
    population = population_of(knowledge)
    states = knowledge.models.membership.copy()
    states[:, [knowledge.models.scans.index(scan) for scan in population.scans]] = 1
    models = replace(knowledge.models, membership=states)
    with pytest.raises(SignalError, match=r"informia needs population scans outside some reference, got 9"):
        InfoRmia().score(target, Knowledge(models=models, population=population), RNG)
