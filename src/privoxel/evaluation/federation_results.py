"""The content of a federation's ``results.json``, in the style of ``results``: fractions 0-1, years."""

from typing import Any, Literal

from pydantic import Field

from privoxel.evaluation.results import CohortSummary, Metric, Record, Utility

FEDERATION_SCHEMA = "1.0"


class LearnerFacts(Record):
    """One learner: its size, its ages, and the error of the last community model on its scans (years)."""

    name: str
    participants: int
    scans: int
    age_mean: float
    age_sd: float
    mae: float


class RoundFacts(Record):
    """One round: who took part, and the community model's mean absolute errors in years."""

    number: int
    took_part: list[str]
    left_out: str = ""
    train_mae: float | None = Field(None, description="on the learners' scans, by the round's model")
    test_mae: float | None = Field(None, description="on the unseen scans")


class PairMatrix(Record):
    """One attack or control by every learner on every other.

    ``cells[i][j]`` is learner i against learner j (null on the diagonal). ``mean_all`` is over every pair;
    ``mean_successful`` over the ``successes`` pairs above one half, as the paper prints it, which any noise
    lifts above one half.
    """

    name: str
    title: str
    kind: Literal["attack", "control", "excess"]
    metric: str
    cells: list[list[Metric | None]]
    mean_all: Metric
    mean_successful: float | None = None
    successes: int | None = None
    paper_all: float | None = None
    paper_successful: float | None = None
    paper_successes: int | None = None


class RoundPoint(Record):
    """The mean over all pairs of the attack on one round's model alone."""

    round: int
    mean_all: Metric
    paper: float | None = None


class LeftOut(Record):
    """A victim's pairs, mean over the attackers, beside what the same attack finds where it took no part."""

    victim: str
    attack: Metric
    without: Metric
    excess: Metric


class Further(Record):
    """One attack beyond the paper: who can do it and what it reaches."""

    name: str
    title: str
    threat_model: str
    source: str
    metrics: dict[str, Metric]
    control: Metric | None = None
    note: str = ""


class FederationResults(Record):
    """Everything that the report of a federation prints."""

    schema_version: str = FEDERATION_SCHEMA
    kind: Literal["federation"] = "federation"
    title: str
    created: str
    versions: dict[str, str]
    machine: dict[str, Any]
    seed: int
    config: dict[str, Any]
    cohort: CohortSummary
    environment: str
    learners: list[LearnerFacts]
    unseen: LearnerFacts
    rounds: list[RoundFacts]
    utility: Utility
    has_learned: bool = Field(description="test MAE clearly below the null; else no privacy number is shown")
    refusal: str = ""
    matrices: list[PairMatrix] = Field(default_factory=list)
    by_round: list[RoundPoint] = Field(default_factory=list)
    left_out: list[LeftOut] = Field(default_factory=list)
    further: list[Further] = Field(default_factory=list)
    findings: list[str] = Field(default_factory=list)
    seconds: dict[str, float] = Field(default_factory=dict)
