import numpy as np
import pytest

from privoxel.attacks import ATTACKS
from privoxel.config import AttackConfig, parse_config
from privoxel.errors import PrivoxelError
from privoxel.progress import Silent
from privoxel.recipes.adversaries import adversary_draws
from privoxel.recipes.attacking import Crew, run_attacks
from privoxel.recipes.plan import chosen_attacks
from privoxel.seeding import Streams
from tests.tables import make_table


def crew(table, workers=1):
    people = {name: 10 + code for code, name in enumerate(table.covariates.participants)}
    return Crew(Streams(5), people, workers, Silent())


def attacked(table, names, **settings):
    config = parse_config({"attacks": settings}).attacks
    draws = adversary_draws(table, config, Streams(5))
    return draws, run_attacks([ATTACKS[name] for name in names], table, draws, crew=crew(table))


def test_leaked_scans_are_never_scored_and_others_always_are():
    table = make_table(members=23, non_members=19, seed=1)
    draws, found = attacked(table, ["abs-error", "error-forest"], protocol="audit")
    assert len(draws) == 4
    for result in found.values():
        for draw, scores in zip(draws, result.evaluated.scores, strict=True):
            assert np.isnan(scores[draw.leaked]).all()
            assert np.isfinite(scores[draw.evaluated]).all()
        assert (np.isfinite(result.evaluated.scores).sum(axis=0) >= 3).all()


def test_reproduction_leaks_68_percent_of_the_smaller_group():
    table = make_table(members=50, non_members=70, seed=1)
    draws, found = attacked(table, ["abs-error"], protocol="reproduction")
    assert len(draws) == 5
    for draw in draws:
        members = table.is_member()
        assert (draw.leaked & members).sum() == (draw.leaked & ~members).sum() == 34
        assert (draw.evaluated & members).sum() == (draw.evaluated & ~members).sum() == 16
    assert found["abs-error"].n_leaked == 68


def test_participants_keep_the_codes_of_the_run():
    table = make_table(members=9, non_members=9, seed=1)
    _, found = attacked(table, ["abs-error"], protocol="audit")
    assert set(found["abs-error"].evaluated.participants) == set(range(10, 28))


def test_attacks_are_told_who_is_no_member():
    table = make_table(members=20, non_members=33, seed=1)
    unseen = np.flatnonzero(~table.is_member())[-13:]
    judged = table.select(np.setdiff1d(np.arange(len(table)), unseen))
    draws = adversary_draws(judged, AttackConfig(), Streams(5))
    population = table.select(unseen)
    (found,) = run_attacks(
        [ATTACKS["population"]], judged, draws, crew=crew(table), population=population
    ).values()
    error, others = np.abs(judged.error()), np.abs(population.error())
    larger = (others > error[:, None]).mean(axis=1)
    for draw, scores in zip(draws, found.evaluated.scores, strict=True):
        np.testing.assert_allclose(scores[draw.evaluated], larger[draw.evaluated])


def test_an_attack_is_the_same_whatever_runs_beside_it():
    table = make_table(members=20, non_members=20, seed=1)
    _, alone = attacked(table, ["error-forest"])
    _, beside = attacked(table, ["abs-error", "error-forest"])
    np.testing.assert_array_equal(
        alone["error-forest"].evaluated.scores, beside["error-forest"].evaluated.scores
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": ["abs-eror"]}, "got abs-eror"),
        ({"names": ["gradient-norm"]}, "got none called abs-error"),
        ({"primary": "nothing"}, "got nothing"),
    ],
)
def test_attacks_that_cannot_be_chosen_are_named(settings, message):
    with pytest.raises(PrivoxelError, match=message):
        chosen_attacks(parse_config({"attacks": settings}))
