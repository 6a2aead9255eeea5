"""The content of ``results.json``: one versioned schema for machines, reports and comparisons.

Fractions are 0-1, ages and errors are years. ``schema_version`` changes whenever a reader would
have to; the JSON schema is ``results_schema()``.
"""

import json
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = "1.2"

METRICS = (
    "balanced_accuracy",
    "auc",
    "tpr_at_fpr_0.001",
    "tpr_at_fpr_0.01",
    "tpr_at_fpr_0.05",
    "tpr_at_fpr_0.1",
)
PRECISION = "precision_at_"
"""Metrics of attacks alone: how often a call is right, at the prevalence that follows in the name."""


class Record(BaseModel):
    """A part of a stored result: frozen, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Metric(Record):
    """One estimate: ``value`` is null with a ``reason`` where the design cannot support it."""

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    method: str = ""
    sd_repeats: float | None = None
    reason: str = ""
    paper: float | None = Field(None, description="value published by Gupta et al. 2021, if there is one")


class AttackResult(Record):
    """One attack (or control) on one target."""

    name: str
    title: str
    threat_model: str
    signals: list[str]
    metrics: dict[str, Metric]
    n_members: int
    n_non_members: int
    n_leaked: int = Field(description="participants of known membership the adversary held, both classes")
    repeats: int
    notes: list[str] = []
    seconds: float = 0.0


class Utility(Record):
    """How well the audited model predicts age: mean absolute errors in years."""

    members: float
    non_members: float | None
    validation: float | None = None
    null: float = Field(description="MAE of predicting the mean training age for the non-members")
    gap: float | None = Field(description="non-members minus members")
    stated: float | None = Field(None, description="MAE the user says the model reaches")


class TrainingPoint(Record):
    """One epoch of the training curve: mean absolute errors in years."""

    epoch: int
    train_mae: float
    validation_mae: float | None = None


class SessionCount(Record):
    """A session that counted as trained on, and how many participants have a scan of it."""

    label: str | None = Field(description="null: all sessions of fewer people than [report] smallest_group")
    participants: int


class OtherScans(Record):
    """What one attack reaches with the trained-on scans, and with other scans of the same people.

    ``share``: (AUC - ½) with the other scans over that with the trained-on ones; null where the latter shows
    no leak, and where age, sex and site at their best (``covariates``) are shown to rank these people. All
    are of the people who have other scans. All are null, with the reason, and nobody is counted where the
    attack could not be run on other scans.
    """

    name: str
    title: str
    threat_model: str
    n_members: int
    n_non_members: int
    trained_on: Metric
    other_scan: Metric
    share: Metric
    covariates: Metric = Metric(value=None, reason="not measured")

    @property
    def are_alike(self) -> bool:
        """Whether age, sex and site are not shown to tell these members from these non-members."""
        return self.covariates.low is None or self.covariates.low <= 0.5


class LowerBound(Record):
    """An ε that the training exceeds with confidence ``level``; 0 where nothing was shown.

    ``mu`` is the bound on the shift of Gaussian DP that ``epsilon`` follows from, where a Gaussian mechanism
    is assumed.
    """

    epsilon: float
    mu: float | None = None
    level: float = Field(description="of this one alone; all bounds of a run hold together at 95 %")
    method: str
    assumption: str


class PrivacyLoss(Record):
    """ε of differential privacy from both sides: what an attack shows, and what the accountant allows.

    ``lower`` is the largest of ``bounds`` that assumes no Gaussian mechanism; None without bounds, of which
    ``reason`` says why there are none. Without differential privacy there is no ``upper``: none is known, or
    it is infinite.
    """

    on: Literal["participants", "canaries"]
    attack: str
    title: str
    threat_model: str
    delta: float
    lower: float | None
    upper: float | None = None
    bounds: list[LowerBound]
    reason: str = ""
    n_members: int
    n_non_members: int


class Target(Record):
    """One audited model under one membership design."""

    name: str
    model: str
    design: dict[str, Any]
    n_members: int
    n_non_members: int
    n_excluded: int = 0
    utility: Utility
    errors: dict[str, Metric] = Field(
        {}, description="MAE of members and non_members and their gap, in years, with intervals"
    )
    training: list[TrainingPoint] = []
    attacks: list[AttackResult]
    controls: list[AttackResult]
    trained_sessions: list[SessionCount] = Field(
        [], description="whose scans counted as trained on and were attacked; empty where all sessions did"
    )
    other_scans: list[OtherScans] = []
    epsilon: list[PrivacyLoss] = Field([], description="bounds on the ε of its training")


class Spread(Record):
    """How far the AUC of one attack differs between the targets of one model, and where from.

    ``participants``, ``trainings`` and ``designs`` are variances of one target's AUC, by source;
    ``trainings`` is null where no design was trained twice. ``share`` is that of all but the participants.
    """

    sd: float = Field(description="standard deviation of the AUC over targets")
    participants: float
    trainings: float | None
    designs: float
    share: float | None


class AttackSummary(Record):
    """One attack averaged over targets of the same model: the claim about the recipe."""

    name: str
    model: str
    n_targets: int
    metrics: dict[str, Metric]
    spread: Spread | None = Field(None, description="null with one target")


class PairedComparison(Record):
    """One attack against ``baseline`` on the same people of the same targets: its AUC minus the other's."""

    name: str
    title: str
    threat_model: str
    baseline: str
    model: str
    n_targets: int
    difference: Metric
    finding: Literal["superior", "non-inferior", "inferior", "not shown"]
    margin: float = Field(description="AUC that a non-inferior attack may lose")


class BestAttack(Record):
    """The best of ``candidates`` attacks on one model, its interval and p-value corrected for the choice.

    ``p_value`` is one-sided, against "none of them ranks members above non-members".
    """

    name: str
    title: str
    threat_model: str
    model: str
    n_targets: int
    candidates: int
    auc: Metric
    p_value: float


class ReliabilityBin(Record):
    """One bin of the reliability diagram: mean stated probability, and the share of members among them."""

    stated: float
    share: float
    low: float
    high: float
    participants: int


class GroupLine(Record):
    """Mean membership probability of the members in one group of at least k people."""

    age_band: str
    sex: str
    site: str
    participants: int
    probability: float
    low: float
    high: float


class Driver(Record):
    """What goes with a member's probability: a rank correlation, or a difference between sites."""

    name: str
    title: str
    measure: Literal["rank correlation", "difference of the mean"]
    estimate: Metric
    participants: int


class RiskSummary(Record):
    """How exposed the participants of one model are, in groups of at least ``smallest_group`` people.

    Probabilities are the adversary's at even prior odds, calibrated on other participants;
    ``reliability`` is at the evaluated share of members. Without a posterior ``reason`` says why.
    """

    model: str
    attack: str
    n_targets: int
    n_members: int
    n_non_members: int
    smallest_group: int
    reason: str = ""
    mean_members: float | None = None
    mean_non_members: float | None = None
    sd_over_targets: float | None = Field(None, description="of a member's probability, mean over members")
    above: dict[str, dict[str, Metric]] = Field(
        {}, description="share of members and of non_members above each probability"
    )
    reliability: list[ReliabilityBin] = []
    groups: list[GroupLine] = []
    drivers: list[Driver] = []


class Verdict(Record):
    """The answer in one sentence, and the numbers behind it."""

    outcome: Literal["leak shown", "no leak above the limit", "inconclusive", "refused"]
    sentence: str
    reasons: list[str] = []
    primary_attack: str
    auc: Metric | None
    minimal_detectable_auc: float | None
    tolerated_auc: float
    best: BestAttack | None = Field(None, description="best attack of no more access than the primary one")


class CohortSummary(Record):
    """The cohort, without anything that identifies a participant."""

    name: str
    is_simulated: bool
    participants: int
    scans: int
    grid_shape: list[int]
    voxel_mm: float
    age_mean: float
    age_sd: float
    age_min: float
    age_max: float
    sites: dict[str, int]
    history: list[str]
    skipped: list[str] = Field([], description="scans left out and why, participants named by keyed hash")


class Results(Record):
    """Everything a report needs, besides the per-scan scores in ``scores.npz``."""

    schema_version: str = SCHEMA_VERSION
    title: str
    created: str
    versions: dict[str, str]
    machine: dict[str, Any]
    seed: int
    config: dict[str, Any]
    cohort: CohortSummary
    targets: list[Target]
    summary: list[AttackSummary]
    verdict: Verdict
    best: list[BestAttack] = Field([], description="best of all attacks, one a model, over its targets")
    comparisons: list[PairedComparison] = Field(
        [], description="each attack against the |error| threshold, paired by participant"
    )
    risk: list[RiskSummary] = Field([], description="one a model; who is who stays in participants_risk.tsv")
    seconds: dict[str, float] = {}


def results_schema() -> dict[str, Any]:
    """Return the JSON schema of ``results.json``."""
    return Results.model_json_schema()


def shipped_schema() -> dict[str, Any]:
    """Return the JSON schema that is installed beside this module, for other languages' readers."""
    text = files(__package__).joinpath("results.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
