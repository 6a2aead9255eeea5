from dataclasses import replace

import numpy as np
import pytest

from privoxel.attacks.base import Knowledge
from privoxel.attacks.threshold import ABS_ERROR, GRADIENT_NORM
from privoxel.signals.table import LazyArray
from tests.tables import leak, make_table

RNG = np.random.default_rng(0)


def test_the_score_is_the_negative_absolute_error_in_years():
    table = make_table(members=4, non_members=7)
    predictions = table.read("prediction")
    expected = [-abs(float(p) - float(a)) for p, a in zip(predictions, table.age, strict=True)]
    np.testing.assert_allclose(ABS_ERROR.score(table, Knowledge(), RNG).scores, expected, rtol=1e-12)


def test_the_gradient_norm_is_that_of_all_tensors_together():
    table = make_table(members=4, non_members=7)
    expected = [-(sum(float(n) ** 2 for n in row) ** 0.5) for row in table.read("gradient-norms")]
    np.testing.assert_allclose(GRADIENT_NORM.score(table, Knowledge(), RNG).scores, expected, rtol=1e-12)


def test_the_last_snapshot_is_read():
    table = make_table(members=4, non_members=7)
    stored = np.stack([table.values["prediction"].read(snapshot=s) for s in (0, 1, 2)])
    stored[:2] += 100.0
    moved = replace(table, values={**table.values, "prediction": LazyArray(stored[None])})
    np.testing.assert_array_equal(
        ABS_ERROR.score(moved, Knowledge(), RNG).scores, ABS_ERROR.score(table, Knowledge(), RNG).scores
    )


def test_the_threshold_comes_from_the_leaked_scans():
    split = leak(make_table(gap=30.0), per_class=20)
    result = ABS_ERROR.score(split.target.blinded(), Knowledge(leaked=split.leaked), RNG)
    others = make_table(members=5, non_members=6, gap=0.0, seed=9).blinded()
    assert ABS_ERROR.score(others, Knowledge(leaked=split.leaked), RNG).threshold == result.threshold
    called = result.scores > result.threshold
    members = split.target.is_member()
    assert called[members].mean() > 0.8
    assert called[~members].mean() < 0.2
    assert result.notes == ()


@pytest.mark.parametrize("attack", [ABS_ERROR, GRADIENT_NORM])
def test_with_nothing_leaked_half_are_called_members_and_the_notes_say_so(attack):
    result = attack.score(make_table(members=30, non_members=50).blinded(), Knowledge(), RNG)
    assert (result.scores > result.threshold).sum() == 40
    assert result.notes == ("threshold=median of the evaluated scans",)
