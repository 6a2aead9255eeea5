from dataclasses import replace

import numpy as np
import pytest

from privoxel.attacks import ON_COPIES
from privoxel.attacks.base import Knowledge
from privoxel.attacks.stability import mean_change
from tests.tables import make_table, with_signal


def test_the_change_is_the_mean_over_copies_scan_by_scan(rng):
    copies, prediction = rng.normal(60, 5, (7, 4)), rng.normal(60, 5, 7)
    slow = [sum(abs(c - p) for c in row) / 4 for row, p in zip(copies, prediction, strict=True)]
    np.testing.assert_allclose(mean_change(copies, prediction), slow)


def test_without_a_label_the_age_does_not_matter_and_with_one_it_does():
    table = make_table(members=5, non_members=6)
    older = replace(table, covariates=replace(table.covariates, age=table.age + 9.0))
    for name, same in (("stability", True), ("stability-error", False)):
        first, second = (
            ON_COPIES[name].score(t, Knowledge(), np.random.default_rng(0)).scores for t in (table, older)
        )
        assert np.array_equal(first, second) == same


def test_the_error_is_taken_off_the_change():
    table = make_table(members=5, non_members=6)
    change, both = (
        ON_COPIES[n].score(table, Knowledge(), np.random.default_rng(0)).scores
        for n in ("stability", "stability-error")
    )
    np.testing.assert_allclose(change - both, np.abs(table.error()), rtol=1e-9)


def test_copies_predicted_like_the_scan_change_nothing():
    table = make_table(members=5, non_members=6)
    still = with_signal(table, "augmented:shift", np.repeat(table.read("prediction")[:, None], 3, axis=1))
    scores = ON_COPIES["stability"].score(still, Knowledge(), np.random.default_rng(0)).scores
    assert scores == pytest.approx(np.zeros(11))
