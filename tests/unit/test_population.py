import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from privoxel.attacks.base import Knowledge
from privoxel.attacks.population import POPULATION, POPULATION_AGE, Sizes, share_of_larger
from privoxel.errors import SignalError
from tests.tables import leak, make_table, with_errors


def slow_shares(scans, population, bandwidth):
    shares = []
    for error, age in zip(*scans, strict=True):
        larger = total = 0.0
        for other, other_age in zip(*population, strict=True):
            weight = 1.0 if bandwidth is None else math.exp(-0.5 * ((other_age - age) / bandwidth) ** 2)
            larger += weight * (1.0 if other > error else 0.5 if other == error else 0.0)
            total += weight
        shares.append(larger / total)
    return shares


@pytest.mark.parametrize("bandwidth", [None, 5.0, 0.7])
def test_shares_are_those_of_counting_one_by_one(rng, bandwidth):
    scans = Sizes(rng.integers(0, 9, 13).astype(float), rng.normal(62, 7, 13))
    population = Sizes(rng.integers(0, 9, 17).astype(float), rng.normal(62, 7, 17))
    found = share_of_larger(scans, population, bandwidth)
    np.testing.assert_allclose(found, slow_shares(scans, population, bandwidth), rtol=1e-9)


def test_a_person_much_older_than_the_population_is_compared_with_its_oldest():
    population = Sizes(np.array([1.0, 5.0]), np.array([50.0, 60.0]))
    assert share_of_larger(Sizes(np.array([2.0]), np.array([900.0])), population, 1.0) == pytest.approx(1.0)


def test_a_population_and_nobody_leaked_are_enough():
    table = make_table(members=200, non_members=201, gap=2.0)
    others = table.select(np.flatnonzero(~table.is_member())[:100])
    rest = table.select(np.setdiff1d(np.arange(401), np.flatnonzero(~table.is_member())[:100]))
    result = POPULATION.score(rest.blinded(), Knowledge(population=others), np.random.default_rng(0))
    assert result.threshold == 0.95
    assert (result.scores > 0.95)[~rest.is_member()].mean() < 0.15
    assert roc_auc_score(rest.is_member(), result.scores) > 0.65


def test_the_given_population_is_used_in_place_of_leaked_non_members():
    split = leak(make_table(gap=2.0), per_class=20)
    twice = with_errors(split.leaked, 2.0 * split.leaked.error())
    own = POPULATION.score(split.target, Knowledge(leaked=split.leaked), np.random.default_rng(0))
    given = Knowledge(leaked=split.leaked, population=twice)
    assert (POPULATION.score(split.target, given, np.random.default_rng(0)).scores >= own.scores - 1.0).all()
    assert not np.allclose(POPULATION.score(split.target, given, np.random.default_rng(0)).scores, own.scores)


def test_errors_that_grow_with_age_are_compared_within_an_age():
    table = make_table(members=300, non_members=301, gap=0.8, seed=5)
    split = leak(with_errors(table, table.error() * np.exp(0.12 * (table.age - 62.6))), per_class=150)
    knowledge, truth = Knowledge(leaked=split.leaked), split.target.is_member()
    aged, plain = (
        roc_auc_score(truth, attack.score(split.target, knowledge, np.random.default_rng(0)).scores)
        for attack in (POPULATION_AGE, POPULATION)
    )
    assert aged > plain


def test_a_missing_signal_of_the_target_is_named_with_a_population_too():
    table = make_table()
    bare = type(table)(**{**vars(table), "values": {}})
    with pytest.raises(SignalError, match="needs the signals prediction"):
        POPULATION.score(bare, Knowledge(population=table), np.random.default_rng(0))
