"""Another scan of a member under another name is found; two people are hardly ever taken for one."""

import numpy as np
import pytest

from privoxel.cohort.likeness import fingerprints
from privoxel.cohort.near_duplicates import near_duplicates
from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort


@pytest.mark.slow
def test_rescans_are_found_and_other_people_are_not():
    found, wrong, n, again = 0, 0, 150, 15
    for seed in range(3000, 3004):
        cohort = simulate_cohort(SimulatorConfig(seed=seed, resolution_mm=4.0, sessions=2), n)
        rows = [*range(0, 2 * n, 2), *range(1, 2 * again, 2)]
        prints = fingerprints(lambda k: cohort.volume(rows[k]), len(rows), voxel_mm=4.0)  # noqa: B023 - used at once
        pairs = {(pair.first, pair.second) for pair in near_duplicates(prints, np.arange(len(rows))).pairs}
        true = {(k, n + k) for k in range(again)}
        found, wrong = found + len(pairs & true), wrong + len(pairs - true)
    assert found == 4 * again
    assert wrong <= 1
