import json

import pytest
from pydantic import ValidationError

from privoxel.evaluation.results import (
    METRICS,
    SCHEMA_VERSION,
    AttackResult,
    AttackSummary,
    CohortSummary,
    Metric,
    Results,
    Target,
    TrainingPoint,
    Utility,
    Verdict,
    results_schema,
    shipped_schema,
)


def example() -> Results:
    metrics = {
        "auc": Metric(value=0.78, low=0.74, high=0.82, method="DeLong", sd_repeats=0.01, paper=0.76),
        "tpr_at_fpr_0.01": Metric(value=None, reason="needs at least 300 non-members for FPR 1 %, has 91"),
    }
    attack = AttackResult(
        name="threshold",
        title="Absolute error",
        threat_model="black-box",
        signals=["prediction"],
        metrics=metrics,
        n_members=97,
        n_non_members=91,
        n_leaked=200,
        repeats=5,
        notes=["cross-fitted"],
        seconds=0.1,
    )
    target = Target(
        name="cnn3d-0",
        model="cnn3d",
        design={"kind": "reproduction", "leak": 0.68},
        n_members=300,
        n_non_members=291,
        utility=Utility(members=1.4, non_members=3.1, null=6.25, gap=1.7),
        training=[TrainingPoint(epoch=1, train_mae=6.0, validation_mae=6.1)],
        attacks=[attack],
        controls=[],
    )
    return Results(
        title="Example",
        created="2026-01-01T00:00:00Z",
        versions={"privoxel": "0"},
        machine={"cores": 2},
        seed=7,
        config={"attacks": ["threshold"]},
        cohort=CohortSummary(
            name="simulated",
            is_simulated=True,
            participants=591,
            scans=600,
            grid_shape=[7, 8, 9],
            voxel_mm=4.0,
            age_mean=62.6,
            age_sd=7.4,
            age_min=45.0,
            age_max=80.0,
            sites={"A": 591},
            history=["simulated"],
        ),
        targets=[target],
        summary=[AttackSummary(name="threshold", model="cnn3d", n_targets=1, metrics=metrics)],
        verdict=Verdict(
            outcome="leak shown",
            sentence="A leak is shown.",
            primary_attack="threshold",
            auc=metrics["auc"],
            minimal_detectable_auc=0.6,
            tolerated_auc=0.6,
        ),
    )


def test_results_survive_the_trip_through_json():
    results = example()
    assert Results.model_validate_json(results.model_dump_json()) == results
    assert json.loads(results.model_dump_json())["schema_version"] == SCHEMA_VERSION


def test_a_withheld_metric_is_null_in_json_and_keeps_its_reason():
    stored = json.loads(example().model_dump_json())["targets"][0]["attacks"][0]["metrics"]["tpr_at_fpr_0.01"]
    assert stored["value"] is None
    assert stored["reason"].startswith("needs at least 300")


@pytest.mark.parametrize(
    "path", [(), ("cohort",), ("targets", 0), ("targets", 0, "attacks", 0), ("verdict",)]
)
def test_an_unknown_field_is_refused_at_every_depth(path):
    content = json.loads(example().model_dump_json())
    place = content
    for key in path:
        place = place[key]
    place["participant_id"] = "x"
    with pytest.raises(ValidationError, match=r"participant_id[\s\S]*Extra inputs are not permitted"):
        Results.model_validate(content)


def test_a_missing_field_and_an_unknown_outcome_are_refused():
    content = json.loads(example().model_dump_json())
    del content["seed"]
    content["verdict"]["outcome"] = "fine"
    with pytest.raises(ValidationError, match="2 validation errors"):
        Results.model_validate(content)


def test_results_cannot_be_changed_after_the_fact():
    with pytest.raises(ValidationError, match="frozen"):
        example().verdict.sentence = "No leak."


def test_the_schema_closes_every_object_and_names_every_metric():
    schema = results_schema()
    closed = [schema, *schema["$defs"].values()]
    assert all(part["additionalProperties"] is False for part in closed)
    assert METRICS[:2] == ("balanced_accuracy", "auc")


def test_the_shipped_schema_is_that_of_the_code():
    assert shipped_schema() == results_schema()
