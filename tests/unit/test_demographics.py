import numpy as np
import pytest

from privoxel.cohort.demographics import age_at, demographics
from privoxel.cohort.effects import SimulatorConfig

COARSE = SimulatorConfig(seed=7, resolution_mm=6.0)


def test_ages_have_the_mean_spread_range_and_null_error_of_the_reference_cohort():
    population = np.array([age_at((k + 0.5) / 20_000) for k in range(20_000)])
    assert population.mean() == pytest.approx(62.6, abs=0.1)
    assert population.std() == pytest.approx(7.4, abs=0.1)
    assert np.abs(population - population.mean()).mean() == pytest.approx(6.25, abs=0.1)
    assert population.min() >= 45
    assert population.max() <= 80


def test_drawn_ages_sexes_and_sites_follow_their_shares():
    people = [demographics(COARSE, n) for n in range(1, 2001)]
    drawn = np.array([p.age for p in people])
    assert drawn.mean() == pytest.approx(62.6, abs=0.5)
    assert drawn.std() == pytest.approx(7.4, abs=0.3)
    assert np.mean([p.sex == "F" for p in people]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([p.site == "A" for p in people]) == pytest.approx(0.6, abs=0.04)
    assert np.std([p.brain_age_gap for p in people]) == pytest.approx(2.5, abs=0.15)
    assert abs(np.corrcoef(drawn, [p.brain_age_gap for p in people])[0, 1]) < 0.08


def test_people_do_not_depend_on_resolution_or_sessions():
    other = SimulatorConfig(seed=7, resolution_mm=2.0, sessions=3)
    assert demographics(other, 12) == demographics(COARSE, 12)
    assert demographics(SimulatorConfig(seed=8), 12) != demographics(COARSE, 12)


def test_seeds_beyond_32_bits_give_other_people():
    big = SimulatorConfig(seed=7 + 2**32)
    assert demographics(big, 12).age != demographics(COARSE, 12).age
