from privoxel.evaluation.federation_results import PairMatrix
from privoxel.evaluation.results import Metric
from privoxel.recipes.federation.attacking import CONTROLS
from privoxel.recipes.federation.findings import findings


def metric(value, low, high):
    return Metric(value=value, low=low, high=high, level=0.95, method="")


def matrix(name, mean, low, high, cells=()):
    return PairMatrix(
        name=name,
        title=name,
        kind="attack",
        metric="balanced_accuracy",
        cells=cells,
        mean_all=metric(mean, low, high),
    )


def cells_of(value):
    cell = metric(value, value - 0.1, value + 0.1)
    return [[None, cell], [cell, None]]


def a_federation(primary, other):
    """Return matrices of two learners whose excesses among people of equal ages are given, in points."""
    bounds = {"set-3": primary, "set-1": other}
    excesses = [
        matrix(f"{name}{kind}", *(x / 100 for x in points))
        for name, points in bounds.items()
        for kind in ("-matched-excess", "-excess")
    ]
    controls = [matrix(name, 0.54, 0.52, 0.56, cells_of(0.54)) for name in CONTROLS]
    return [matrix("set-3", 0.6, 0.58, 0.62, cells_of(0.6)), *controls, *excesses]


def test_a_leak_to_the_set_chosen_beforehand_is_told_first_and_alone():
    told = findings(a_federation((8, 3, 13), (9, 4, 14)), "set-3")
    assert told[0].startswith("The community models leak: among people of equal ages")
    assert "+8.0 points (+3.0 to +13.0)" in told[0]
    assert not any("set 1" in line for line in told)


def test_a_leak_that_only_another_set_finds_is_not_passed_over():
    told = findings(a_federation((1, -2, 4), (9, 4, 14)), "set-3")
    assert told[0].startswith("The community models leak to set 1, though not to the set chosen beforehand")
    assert "+9.0 points (+4.0 to +14.0)" in told[0]
    assert told[1].startswith("Set 3 shows no leak:")


def test_where_no_set_finds_a_leak_none_is_told():
    told = findings(a_federation((1, -2, 4), (2, -1, 5)), "set-3")
    assert told[0].startswith("No leak is shown: among people of equal ages")


def test_the_share_of_distribution_shift_is_that_of_the_pairs_above_guessing():
    told = findings(a_federation((1, -2, 4), (2, -1, 5)), "set-3")
    assert "Among the pairs above 50 % (2), distribution shift explains 40 %" in told[-1]
