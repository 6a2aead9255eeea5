"""The band around the ROC curve: simultaneous, not point by point."""

import numpy as np
import pytest

from privoxel.evaluation.intervals import percentile_ends
from privoxel.evaluation.roc import common_tail, roc_curve
from tests.scores import Design, simulate


def test_the_common_tail_keeps_the_promised_share_of_curves_whole():
    rng = np.random.default_rng(0)
    curves = np.cumsum(rng.normal(size=(1000, 13)), axis=1)
    tail = common_tail(curves, 0.9)

    def share_inside(t: float) -> float:
        place = int(np.ceil(t * len(curves))) - 1
        ordered = np.sort(curves, axis=0)
        low, high = ordered[place], ordered[-1 - place]
        return float(((curves >= low) & (curves <= high)).all(axis=1).mean())

    assert share_inside(tail) >= 0.9
    assert share_inside(tail + 2 / 1000) < 0.9
    assert tail < 0.05


def test_curves_without_spread_have_the_pointwise_tail():
    assert common_tail(np.ones((200, 5)), 0.95) == pytest.approx(0.025)


def test_one_point_has_the_pointwise_tail():
    values = np.random.default_rng(1).normal(size=(2000, 1))
    assert common_tail(values, 0.9) == pytest.approx(0.05, abs=1e-3)
    ends = percentile_ends(values, 0.9)
    assert np.mean((values >= ends[0]) & (values <= ends[1])) == pytest.approx(0.9, abs=2e-3)


def test_the_band_of_the_whole_curve_is_wider_than_that_of_each_point():
    evaluated = simulate(Design(members=60, non_members=60, shift=1.0), np.random.default_rng(2))
    curve = roc_curve(evaluated, np.random.default_rng(0), points=12)
    single = roc_curve(evaluated, np.random.default_rng(0), points=12, level=0.5)
    assert (curve.high - curve.low).mean() > (single.high - single.low).mean()
    assert ((curve.low >= 0) & (curve.high <= 1)).all()
