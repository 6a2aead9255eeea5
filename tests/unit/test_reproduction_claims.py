"""Rulings follow from numbers: the same claim falls on either side as the numbers do."""

import numpy as np
import pytest

from privoxel.evaluation.federation_results import FederationResults, LearnerFacts, PairMatrix, RoundPoint
from privoxel.evaluation.overfitting import PUBLISHED, fit_line
from privoxel.evaluation.reproduction_results import Comparison, PaperTable, TableLine
from privoxel.evaluation.results import Metric, Utility
from privoxel.evaluation.scored import Estimate
from privoxel.recipes.published import TABLE_1
from privoxel.recipes.reproduction.cells import Found
from privoxel.recipes.reproduction.claims import _difference, claims_of, rule
from privoxel.recipes.reproduction.private_figures import PrivateModel, PrivateModels, epsilon_words
from privoxel.recipes.reproduction.published_central import APPENDIX_E, TABLE_3, published_private
from privoxel.recipes.reproduction.tables import Cell
from privoxel.report.reproduction_markdown import reproduction_markdown
from privoxel.seeding import Streams
from tests.scores import Design, simulate


def matrix(name, value, low, high, *, kind="attack"):
    mean = Metric(value=value, low=low, high=high)
    shown = {"mean_successful": 0.66, "successes": 4} if kind == "attack" else {}
    return PairMatrix(
        name=name, title=name, kind=kind, metric="balanced_accuracy", cells=[], mean_all=mean, **shown
    )


def federation(environment, excess, *, last=(0.60, 0.55, 0.65), five=(0.60, 0.55, 0.65)):
    """Return a federation whose matched excess, last round and average of rounds have these intervals."""
    learner = LearnerFacts(name="L1", participants=9, scans=9, age_mean=60.0, age_sd=7.0, mae=2.0)
    first = Metric(value=0.5, low=0.48, high=0.52)
    return FederationResults.model_construct(
        environment=environment,
        learners=[learner],
        unseen=learner,
        utility=Utility(members=2.0, non_members=3.0, null=6.0, gap=1.0),
        has_learned=True,
        config={"attack": {"by_round": 1, "rounds": 5}},
        by_round=[
            RoundPoint(round=1, mean_all=first),
            RoundPoint(round=25, mean_all=Metric(value=last[0], low=last[1], high=last[2])),
        ],
        matrices=[
            matrix("set-1", *five),
            matrix("set-3", 0.5, 0.48, 0.52),
            matrix("age", 0.48, 0.46, 0.5, kind="control"),
            matrix("set-3-excess", 0.02, 0.0, 0.04, kind="excess"),
            matrix("set-3-matched-excess", *excess, kind="excess"),
        ],
    )


def rulings(environment, excess, **changes):
    found = Found({Cell("cnn3d", environment): federation(environment, excess, **changes)}, {}, {})
    return {one.claim.split(": ")[1]: one.ruling for one in claims_of(found, None, 0)}


def test_a_quantity_rules_by_where_its_interval_lies():
    assert rule(0.01, 0.02) == "holds here"
    assert rule(-0.02, -0.01) == "does not hold here"
    assert rule(-0.01, 0.02) == rule(None, None) == "not shown here"


def test_pairs_that_age_explains_are_an_artefact_and_others_are_not():
    claim = "attacks succeed where the data are not alike"
    assert rulings("skewed-non-iid", (0.0, -0.02, 0.02))[claim] == "artefact confirmed here"
    assert rulings("skewed-non-iid", (0.1, 0.05, 0.15))[claim] == "artefact not seen here"
    assert rulings("skewed-non-iid", (0.05, -0.05, 0.15))[claim] == "not shown here"


def test_magnitudes_are_judged_among_people_of_equal_ages_where_these_were_compared():
    claim = "gradient magnitudes do not depend on the distribution of ages"
    raw = matrix("set-1-excess", 0.05, 0.02, 0.08, kind="excess")
    matched = matrix("set-1-matched-excess", 0.01, -0.02, 0.04, kind="excess")
    for further, ruling in (([raw], "holds here"), ([raw, matched], "not shown here")):
        results = federation("skewed-non-iid", (0.0, -0.02, 0.02))
        results.matrices.extend(further)
        found = Found({Cell("cnn3d", "skewed-non-iid"): results}, {}, {})
        assert {one.claim.split(": ")[1]: one.ruling for one in claims_of(found, None, 0)}[claim] == ruling


def test_in_iid_the_excess_over_the_strongest_control_decides():
    claim = "every learner finds the others' participants"
    assert rulings("uniform-iid", (0.1, 0.05, 0.15))[claim] == "holds here"
    assert rulings("uniform-iid", (0.01, -0.05, 0.07))[claim] == "not shown here"


def test_rounds_help_only_if_their_interval_lies_above_the_last_round():
    claim = "averaging the logits of the last 5 rounds makes the attack stronger"
    apart = {"last": (0.60, 0.55, 0.65), "five": (0.75, 0.7, 0.8)}
    worse = {"last": (0.75, 0.70, 0.80), "five": (0.60, 0.55, 0.65)}
    assert rulings("uniform-iid", (0.1, 0.05, 0.15), **worse)[claim] == "artefact confirmed here"
    assert rulings("uniform-iid", (0.1, 0.05, 0.15))[claim] == "not shown here"
    assert rulings("uniform-iid", (0.1, 0.05, 0.15), **apart)[claim] == "artefact not seen here"
    between = {"last": (0.60, 0.55, 0.65), "five": (0.61, 0.56, 0.66)}
    assert rulings("uniform-iid", (0.1, 0.05, 0.15), **between)[claim] == "not shown here"
    assert rulings("uniform-iid", (0.1, 0.05, 0.15))["the attack grows with the rounds"] == "holds here"


def test_two_attacks_are_compared_on_the_same_people(rng):
    strong = simulate(Design(members=200, non_members=200, shift=2.0), rng)
    weak = simulate(Design(members=200, non_members=200, shift=0.0), np.random.default_rng(5))
    gain = _difference(strong, weak, Streams(1), "pair")
    assert gain.low > 0.1
    assert gain.low < gain.value < gain.high
    assert _difference(strong, strong, Streams(1), "same")[:3] == (0.0, 0.0, 0.0)


def a_private(epsilon, mae, gap, accuracy):
    value = Estimate(mae, mae - 0.1, mae + 0.1)
    metric = Metric(value=accuracy, low=accuracy - 0.02, high=accuracy + 0.02)
    return PrivateModel(
        "cnn3d",
        1.0,
        epsilon,
        metric,
        value,
        Estimate(gap, gap - 0.1, gap + 0.1),
        Estimate(0.1, 0.0, 0.2),
        6.0,
    )


@pytest.mark.parametrize(("mae", "ruling"), [(5.9, "holds here"), (4.0, "does not hold here")])
def test_a_useful_private_model_with_a_guarantee_refutes_the_paper(mae, ruling):
    models = (a_private(1e9, 3.0, 1.0, 0.7), a_private(8.0, mae, 0.0, 0.5))
    claims = claims_of(Found({}, {}, {}), PrivateModels("combined", models, {}), 0)
    of = {one.claim: one for one in claims}
    assert of["No private model with ε < 100 is useful"].ruling == ruling
    assert of["With a gap below 0.1 years the attack is at chance"].ruling == "holds here"
    assert "best of 1 models" in of["No private model with ε < 100 is useful"].measured


@pytest.mark.parametrize(
    ("accuracy", "ruling"), [(0.5, "holds here"), (0.519, "not shown here"), (0.53, "does not hold here")]
)
def test_an_interval_that_reaches_far_does_not_show_chance(accuracy, ruling):
    models = (a_private(1e9, 3.0, 1.0, 0.7), a_private(8.0, 5.9, 0.0, accuracy))
    claims = claims_of(Found({}, {}, {}), PrivateModels("combined", models, {}), 0)
    of = {one.claim: one for one in claims}
    assert of["With a gap below 0.1 years the attack is at chance"].ruling == ruling


def test_the_published_points_give_the_published_line():
    for name, models in (
        ("all", ("cnn3d", "slice-mean")),
        ("cnn3d", ("cnn3d",)),
        ("slice-mean", ("slice-mean",)),
    ):
        points = [point for model in models for point in published_private(model)]
        line = fit_line([point.gap for point in points], [point.accuracy for point in points])
        assert line.models == PUBLISHED[name].models
        assert line.intercept.value == pytest.approx(PUBLISHED[name].intercept, abs=0.001)
        assert line.slope.value == pytest.approx(PUBLISHED[name].slope, abs=0.001)
        assert line.r.value == pytest.approx(PUBLISHED[name].r, abs=0.002)


def test_the_published_numbers_keep_the_papers_order():
    assert TABLE_3["slice-mean"].test - TABLE_3["slice-mean"].train == pytest.approx(2.11)
    for model in ("cnn3d", "slice-mean"):
        assert max(TABLE_1[model].values()) == TABLE_1[model]["combined"]
        assert APPENDIX_E[model].target < APPENDIX_E[model].validation < TABLE_1[model]["combined"] + 0.03
        epsilons = [point.log10_epsilon for point in published_private(model)]
        assert epsilons == sorted(epsilons, reverse=True)


def test_epsilon_says_where_it_guarantees_nothing():
    assert epsilon_words(5.871) == "5.87"
    assert epsilon_words(2.1e6) == "10^6.3: no meaningful guarantee"
    assert epsilon_words(float("inf")) == "infinite: no guarantee"


def test_markdown_keeps_bars_inside_their_cells():
    line = TableLine(label="|error|", cells=[Metric(value=0.5, low=0.4, high=0.6), "a|b"])
    table = PaperTable(part="table1", title="T", caption="C", columns=["x", "y"], lines=[line])
    text = reproduction_markdown(Comparison(what="table1", scale="demo", tables=[table]))
    assert "| \\|error\\| | 50.0 (40.0–60.0) | a\\|b |" in text
