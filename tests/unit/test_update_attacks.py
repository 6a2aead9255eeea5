"""Curious server, FedMIA, attribution and trajectories against slow twins, and the sign of an update."""

import math

import numpy as np
import pytest

from privoxel.attacks.attribution import attribute, attribute_by_age
from privoxel.attacks.fedmia import fedmia
from privoxel.attacks.trajectory import fall, interquartile_range
from privoxel.attacks.updates import gradient_difference, update_cosine
from privoxel.cohort.base import Covariates, ScanId

RNG = np.random.default_rng(0)
GRADIENTS = RNG.normal(size=(2, 5, 7))  # rounds × scans × parameters
UPDATES = -0.5 * GRADIENTS[:, :3] + 0.1 * RNG.normal(size=(2, 3, 7))  # learner c took a step on scan c
PRODUCTS = np.einsum("tcp,tsp->tcs", UPDATES, GRADIENTS)
NORMS = np.linalg.norm(GRADIENTS, axis=2)


def test_cosine_and_difference_equal_their_definitions() -> None:
    cosine = update_cosine(PRODUCTS, NORMS, np.linalg.norm(UPDATES, axis=2))
    difference = gradient_difference(PRODUCTS, NORMS)
    for t in range(2):
        for c in range(3):
            for s in range(5):
                g, d = GRADIENTS[t, s], -UPDATES[t, c]
                assert cosine[t, c, s] == pytest.approx(g @ d / math.sqrt((g @ g) * (d @ d)))
                assert difference[t, c, s] == pytest.approx(d @ d - (d - g) @ (d - g))


def test_the_learner_that_trained_on_a_scan_is_the_one_named() -> None:
    cosine = update_cosine(PRODUCTS, NORMS, np.linalg.norm(UPDATES, axis=2))
    for pooled in (True, False):
        assert attribute(fedmia(cosine, pooled=pooled))[:3].tolist() == [0, 1, 2]


def test_fedmia_equals_its_formula() -> None:
    s = RNG.normal(size=(4, 5, 6))
    for pooled in (True, False):
        got = fedmia(s, pooled=pooled)
        for c in range(5):
            for x in range(6):
                terms = []
                for t in range(4):
                    others = [s[t, k, x] for k in range(5) if k != c]
                    spread = [np.var([s[t, k, y] for k in range(5) if k != c], ddof=1) for y in range(6)]
                    sigma = math.sqrt(np.mean(spread) if pooled else spread[x])
                    terms.append(0.5 * (1 + math.erf((s[t, c, x] - np.mean(others)) / sigma / math.sqrt(2))))
                assert got[c, x] == pytest.approx(np.mean(terms))


def test_fedmia_refuses_two_learners() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        fedmia(np.zeros((1, 2, 3)))


def test_age_attributes_scans_only_where_learners_differ_in_age() -> None:
    age, learner = RNG.uniform(45, 80, 200), np.repeat([0, 1], 100)
    for ages, low, high in ((age, 0.3, 0.7), (age / 10 + 60 * learner, 0.99, 1.0)):
        scans = tuple(ScanId(f"{k:03d}", "0") for k in range(200))
        table = Covariates(scans, ages, np.full(200, "F"), np.full(200, "a"))
        half = np.arange(200) % 2 == 0
        named = attribute_by_age(table.select(half), learner[half], table.select(~half))
        assert low <= (named == learner[~half]).mean() <= high


def test_a_falling_loss_scores_higher_than_a_flat_one() -> None:
    series = np.array([[9.0, 5.0], [6.0, 5.0], [2.0, 5.0]])
    assert fall(series).tolist() == [7.0, 0.0]
    assert interquartile_range(series).tolist() == [3.5, 0.0]
