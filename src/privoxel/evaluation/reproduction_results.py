"""The content of a reproduction: numbers measured beside numbers published."""

from pydantic import Field

from privoxel.evaluation.federation_results import PairMatrix
from privoxel.evaluation.results import Metric, Record


class ComparedRow(Record):
    """One number: measured, published, and what the same attack finds by age alone."""

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


class Comparison(Record):
    """Everything that the page of a reproduction shows."""

    what: str
    scale: str
    rows: list[ComparedRow] = Field(default_factory=list)
    pairs: list[ComparedPairs] = Field(default_factory=list)
    curves: list[ComparedCurve] = Field(default_factory=list)
    refused: list[str] = Field(default_factory=list)
