"""The content of a reproduction: numbers measured beside numbers published."""

from typing import Literal

from pydantic import Field

from privoxel.evaluation.federation_results import PairMatrix
from privoxel.evaluation.results import Metric, Record


class ComparedRow(Record):
    """One number: measured, published, and what the same attack finds by age alone."""

    part: str = ""
    model: str
    environment: str
    quantity: str
    measured: str
    published: str = ""
    all_pairs: Metric | None = None
    control: Metric | None = None
    excess: Metric | None = None


class ComparedPairs(Record):
    """The pair matrices of one federation beside the paper's."""

    model: str
    environment: str
    learners: list[str]
    measured: list[PairMatrix]
    published: PairMatrix | None


class ComparedCurve(Record):
    """Measured and published values by round."""

    model: str
    environment: str
    quantity: str
    rounds: list[int]
    measured: list[float]
    published_rounds: list[int]
    published: list[float]


class ShadowRow(Record):
    """A classifier that learnt from one shadow: accuracy on the target, on held-out scans of the shadow."""

    members: int = Field(description="participants who trained the shadow")
    known_non_members: int
    mae_members: float
    mae_non_members: float
    target: Metric
    validation: Metric


class ShadowResults(Record):
    """Appendix E for one network: ``own`` is a shadow of people who also trained the target, as in the paper.

    ``disjoint`` is a shadow of people of whom none did, judged on the same participants as ``own``.
    """

    kind: Literal["appendix-e"] = "appendix-e"
    model: str
    attack: str
    judged_members: int
    judged_non_members: int
    own: ShadowRow
    disjoint: ShadowRow | None = None
    difference: Metric | None = Field(None, description="own minus disjoint, on the same people")
    seconds: float = 0.0


class TableLine(Record):
    """One row of a table: accuracies as metrics (fractions), anything else in words."""

    label: str
    cells: list[Metric | str]
    kind: Literal["attack", "control", "other"] = "attack"


class PaperTable(Record):
    """One of the paper's tables in its own layout, published columns beside measured ones."""

    part: str
    title: str
    caption: str
    columns: list[str]
    lines: list[TableLine]


class Series(Record):
    """Points of one kind in a figure, with intervals of ``y`` where there are any."""

    name: str
    is_published: bool
    x: list[float]
    y: list[float]
    low: list[float] | None = None
    high: list[float] | None = None


class DrawnLine(Record):
    """A straight line through a figure: y = intercept + slope · x, over the x that its points cover."""

    name: str
    is_published: bool
    intercept: float
    slope: float
    x: tuple[float, float]


class Scatter(Record):
    """A figure of points."""

    part: str
    title: str
    caption: str
    x_label: str
    y_label: str
    series: list[Series]
    lines: list[DrawnLine] = Field(default_factory=list)


class Histograms(Record):
    """Shares of members and non-members in the bins between ``edges``."""

    part: str
    title: str
    caption: str
    x_label: str
    edges: list[float]
    members: list[float]
    non_members: list[float]


Ruling = Literal[
    "holds here",
    "does not hold here",
    "not shown here",
    "artefact confirmed here",
    "artefact not seen here",
]


class Claim(Record):
    """One claim of the paper (or of its digest), what was measured of it, and what follows."""

    claim: str
    source: str
    published: str
    measured: str
    rule: str = Field(description="how the ruling follows from what was measured")
    ruling: Ruling


class Decision(Record):
    """Something that the paper leaves open, and what was taken here."""

    question: str
    decided: str


class Comparison(Record):
    """Everything that the page of a reproduction shows."""

    what: str
    scale: str
    facts: list[str] = Field(default_factory=list, description="cohort, sizes, seed, versions, time")
    tables: list[PaperTable] = Field(default_factory=list)
    scatters: list[Scatter] = Field(default_factory=list)
    histograms: list[Histograms] = Field(default_factory=list)
    claims: list[Claim] = Field(default_factory=list)
    decisions: list[Decision] = Field(default_factory=list)
    left_out: list[str] = Field(default_factory=list, description="what this scale cuts")
    rows: list[ComparedRow] = Field(default_factory=list)
    pairs: list[ComparedPairs] = Field(default_factory=list)
    curves: list[ComparedCurve] = Field(default_factory=list)
    refused: list[str] = Field(default_factory=list)
