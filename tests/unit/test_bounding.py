"""Scores for the bound of ε, and which attacks an adversary can run."""

import numpy as np
import pytest

from privoxel.config import RunConfig, ShadowConfig
from privoxel.evaluation.epsilon import canaries_of
from privoxel.evaluation.scored import Evaluated
from privoxel.recipes.defending.reading import adversaries


def test_a_participant_has_the_mean_height_above_the_thresholds_that_judged_them():
    scores = np.array([[1.0, 2.0, np.nan, 0.0], [3.0, np.nan, np.nan, 1.0]])
    members = np.array([True, True, True, False])
    found = canaries_of(Evaluated(scores, np.array([0.5, 1.0]), members, np.array([7, 7, 9, 4])))
    # Codes in order are 4, 7 and 9; nobody judged 9.
    assert found.scores.tolist() == pytest.approx([(-0.5 + 0.0) / 2, (0.5 + 1.5 + 2.0) / 3])
    assert found.included.tolist() == [False, True]
    assert not found.coin


def test_who_holds_the_weights_can_ask_as_well():
    found = adversaries(["abs-error", "gradient-norm", "tube"], RunConfig())
    assert found == {"black-box": ("abs-error", "tube"), "white-box": ("abs-error", "gradient-norm", "tube")}


def test_shadows_from_the_targets_weights_make_an_attack_white_box():
    config = RunConfig(shadows=ShadowConfig(count=2, design="population", warm_start="target"))
    assert "rmia" not in adversaries(["abs-error", "rmia"], config)["black-box"]
