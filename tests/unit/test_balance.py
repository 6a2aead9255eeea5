import numpy as np
import pytest

from privoxel.evaluation.balance import categorical_difference, standardised_difference


def test_groups_a_standard_deviation_apart_differ_by_one():
    values = np.array([0.0, 2.0, 1.0, 3.0]) / np.sqrt(2.0)
    members = np.array([False, False, True, True])
    assert standardised_difference(values, members) == pytest.approx(1 / np.sqrt(2.0))
    assert standardised_difference(values, ~members) == pytest.approx(-1 / np.sqrt(2.0))


def test_two_labels_give_the_usual_difference_of_proportions():
    rng = np.random.default_rng(0)
    labels, members = rng.choice(["F", "M"], 91), rng.random(91) < 0.4
    p, q = ((labels[group] == "M").mean() for group in (members, ~members))
    expected = abs(p - q) / np.sqrt((p * (1 - p) + q * (1 - q)) / 2)
    assert categorical_difference(labels, members) == pytest.approx(expected)


def test_the_order_of_many_labels_does_not_matter():
    rng = np.random.default_rng(1)
    labels, members = rng.choice(["A", "B", "C", "D"], 200), rng.random(200) < 0.5
    renamed = np.array([{"A": "z", "B": "k", "C": "a", "D": "m"}[label] for label in labels])
    assert categorical_difference(renamed, members) == pytest.approx(categorical_difference(labels, members))


def test_what_has_no_value_is_none():
    members = np.array([True, True, False, False])
    assert standardised_difference(np.array([1.0, 1.0, 2.0, 2.0]), members) is None
    assert standardised_difference(np.ones(4), members) == 0.0
    assert standardised_difference(np.arange(3.0), np.array([True, False, False])) is None
    assert categorical_difference(np.array(["A", "A", "B", "B"]), members) is None
    assert categorical_difference(np.array(["A"] * 4), members) == 0.0
