"""People with false ages, inserted by coins, on whom ε is bounded."""

import numpy as np
import pytest

from privoxel.cohort.splits import Design
from privoxel.config import RunConfig, parse_config
from privoxel.errors import ConfigError
from privoxel.recipes.canaries import draw_canaries, people_besides, with_canaries, with_false_ages
from tests.conftest import make_cohort


def asked(count: int) -> RunConfig:
    return parse_config({"canaries": {"count": count}})


def test_canaries_are_drawn_once_and_nobody_else_is_one():
    cohort = make_cohort(23)
    canaries = draw_canaries(asked(7), cohort)
    assert len(set(canaries)) == 7
    assert canaries == draw_canaries(asked(7), cohort)
    assert draw_canaries(RunConfig(), cohort) == ()
    rest = people_besides(cohort.covariates, canaries)
    assert set(rest.participants) == set(cohort.covariates.participants) - set(canaries)


def test_canaries_have_ages_of_others_and_nobody_elses_changes():
    cohort = make_cohort(40)
    canaries = draw_canaries(asked(20), cohort)
    false = with_false_ages(cohort, canaries, seed=0)
    changed = cohort.covariates.age != false.covariates.age
    who = np.array([scan.participant in canaries for scan in cohort.covariates.scans])
    assert not changed[~who].any()
    assert changed[who].mean() > 0.8
    assert np.isin(false.covariates.age[who].round(6), cohort.covariates.age.round(6)).all()
    assert with_false_ages(cohort, (), seed=0) is cohort


def test_coins_say_who_is_inserted():
    canaries = tuple(f"c{k}" for k in range(9))
    rng = np.random.default_rng(0)
    counts = [len(with_canaries(Design(("a",), ("b",)), canaries, rng).inserted) for _ in range(500)]
    assert np.mean(counts) == pytest.approx(4.5, abs=0.3)
    assert np.var(counts) == pytest.approx(2.25, abs=0.5)


def test_more_canaries_than_people_are_refused():
    with pytest.raises(ConfigError, match="fewer than the 23 participants"):
        draw_canaries(asked(23), make_cohort(23))
