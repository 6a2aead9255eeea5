"""The content of a frontier's ``results.json``: settings, where they stand, and the overfitting line."""

from typing import Any

from pydantic import Field

from privoxel.evaluation.results import Metric, Record

FRONTIER_SCHEMA = "2.0"

ASSUMPTION = (
    "the scores of one training do not influence each other, and neither do the cross-fitted attackers who "
    "gave them and who learned from shared teachers"
)
"""Of a lower bound of ε from one training."""


class Vulnerability(Record):
    """The best attack of one adversary on one setting, both intervals corrected for having been chosen.

    ``attack`` is the one of the largest balanced accuracy among ``candidates``, ``auc_attack`` the one of the
    largest standardised AUC; ``p_value``: of the latter, against "none of them works".
    """

    adversary: str
    candidates: int
    attack: str
    title: str
    accuracy: Metric
    auc_attack: str
    auc_title: str
    auc: Metric
    p_value: float


class PrivacyBounds(Record):
    """What a private training is proven to spend at most and shown to spend at least, at one δ.

    ``lower`` holds at ``level``, for all private settings at once, under ``assumption``. ``agree``: whether
    it is below the upper bound.
    """

    delta: float
    upper: float | None = Field(description="null where it is infinite")
    guarantee: str
    randomness: str = Field("", description="secret, secure or seeded; empty where not recorded")
    noise: str = Field("", description="where noise and sampling come from, in a sentence")
    accountant: str
    noise_multiplier: float | None
    lower: float
    level: float
    settings: int
    attack: str
    method: str
    assumption: str = ASSUMPTION
    agree: bool

    @property
    def is_seeded(self) -> bool:
        """Whether the noise follows from the run's seed: then ``upper`` is what secret noise would give."""
        return self.randomness == "seeded"

    @property
    def upper_shown(self) -> str:
        """The upper bound as tables print it."""
        if self.upper is None:
            return "∞"
        if self.upper < 1e3:
            return f"{self.upper:.3g}"
        return f"{self.upper:.0f}" if self.upper < 1e4 else f"{self.upper:.1e}"


class FrontierPoint(Record):
    """One trained setting: its errors (years), its best attacks, and its privacy where it is private.

    MAE, R² and gap are of the answers that are given out; ``model_gap`` is of the predictions behind them.
    """

    name: str
    family: str
    folder: str
    changes: dict[str, Any]
    defence: dict[str, str]
    n_targets: int
    n_members: int
    n_non_members: int
    mae: Metric
    r2: Metric
    members_mae: Metric
    gap: Metric
    model_gap: Metric
    null_mae: float
    primary: Metric = Field(description="balanced accuracy of the attack that was fixed beforehand")
    vulnerability: list[Vulnerability]
    privacy: PrivacyBounds | None = None
    seconds: float = Field(description="of training, attacks and report together")


class Unfinished(Record):
    """A setting without results, and why."""

    name: str
    family: str
    reason: str


class PointStanding(Record):
    """Where one setting stands on one frontier (``frontier.Standing``)."""

    name: str
    is_on_front: bool
    share: float
    dominated_by: list[str]
    clearly: bool
    alike: list[str]


class Recommendation(Record):
    """The least vulnerable setting whose error is tolerated, for one adversary.

    ``vulnerability`` is that of ``attack``, corrected for the choice among attacks and among ``candidates``
    settings; ``alike`` are candidates that are not told apart from it.
    """

    name: str
    loss: Metric
    vulnerability: Metric
    attack: str
    title: str
    candidates: int
    alike: list[str]
    meets_aim: bool
    loss_may_exceed: bool = Field(description="whether the upper end of the loss passes the tolerated one")
    confirm: str | None = Field(
        None, description="file of the grid that asks again; null for the reference itself"
    )


class Front(Record):
    """Utility against the vulnerability to one adversary."""

    adversary: str
    names: list[str] = Field(description="settings that none dominates, the most accurate first")
    standings: list[PointStanding]
    left_out: list[str] = Field(
        description="settings that change the answers alone, which is no defence against this adversary"
    )
    recommendation: Recommendation | None


class Band(Record):
    """The interval of the mean accuracy at each of some gaps (years)."""

    gaps: list[float]
    low: list[float]
    high: list[float]


class OverfittingLine(Record):
    """Balanced accuracy of one attack against the gap of what it sees; ``over`` says which settings."""

    attack: str
    title: str
    adversary: str
    is_primary: bool
    over: str
    models: int
    intercept: Metric
    slope: Metric
    r: Metric
    residual_sd: float
    band: Band = Field(description="about the line, with the same intervals as the intercept")


class FrontierResults(Record):
    """Everything that the page of a frontier shows."""

    schema_version: str = FRONTIER_SCHEMA
    title: str
    created: str
    versions: dict[str, str]
    machine: dict[str, Any]
    seed: int
    config: dict[str, Any]
    cohort: str
    is_simulated: bool
    metric: str
    reference: str
    tolerated_loss: float
    aim: float
    draws: int
    primary_attack: str
    points: list[FrontierPoint]
    unfinished: list[Unfinished]
    fronts: list[Front]
    lines: list[OverfittingLine] = Field(description="over all finished settings")
    part_lines: list[OverfittingLine] = Field(description="of the primary attack over some of them")
    sharing: list[list[str]] = Field(description="settings that share a training")
    findings: list[str]
    seconds: dict[str, float] = Field(default_factory=dict)
