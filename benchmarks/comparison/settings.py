"""What the comparison is, read from a TOML file: people, networks, levels, attacks, claims."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from privoxel.config import Count, ModelConfig, Positive, Section, TrainingConfig

LEVELS = ("low", "middle", "high")


class People(Section):
    """Participants: the pool that targets draw from, and people no target ever sees.

    A real cohort is the folder given on the command line, its participants in random order.
    """

    seed: int
    kind: Literal["simulated", "real"] = "simulated"
    where: dict[str, tuple[str, ...]] = Field({}, description="values of columns to keep, real cohorts")
    resolution_mm: float = 4.0
    pool: Positive = Field(description="judged participants; each target trains on `members` of them")
    members: Positive
    references: Count = Field(0, description="people of whom half train each reference model")
    unseen: Count = Field(0, description="people whom neither targets nor references train on")

    @property
    def everyone(self) -> int:
        """Number of participants to simulate."""
        return self.pool + self.references + self.unseen


class Network(Section):
    """A network and the epochs after which it counts as little, moderately and much overfitted."""

    model: ModelConfig
    learning_rate: Annotated[float, Field(gt=0)]
    epochs: dict[Literal["low", "middle", "high"], int]

    @property
    def last(self) -> int:
        """Epochs of a training; the lower levels are its earlier snapshots."""
        return max(self.epochs.values())


class Trainings(Section):
    """How many models of each kind."""

    targets: Positive
    references: Count = Field(0, description="trained on people outside the pool")
    references_a_target: Count = Field(0, description="of them, those that attack one target")
    shadows: Count = Field(0, description="trained on parts of the pool, everyone inside equally many")
    shadow_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5


class Attacks(Section):
    """Names of attacks by what they are given, and the one of each group that claims are made for."""

    leaked: tuple[Positive, ...] = Field(description="leaked participants of each class")
    shadow_free: tuple[str, ...]
    with_references: tuple[str, ...] = ()
    with_both: tuple[str, ...] = Field((), description="need references and leaked participants")
    with_shadows: tuple[str, ...] = ()
    one_shadow: tuple[str, ...] = ()


class Claim(Section):
    """One row of the table of claims: is ``first`` better than the best of ``over``?

    ``over`` may name several attacks: the one with the highest mean over targets in that cell is taken, which
    favours it; ``@all`` names everything there but what ``without`` names, ``@encoders`` the paper's nets.
    ``margin`` is what an attack that is non-inferior in AUC may lose; rates have none. ``expected`` is the
    gain hoped for. With ``times`` the claim is to reach that many times the metric of the best of ``over``.
    """

    title: str
    first: str
    over: tuple[str, ...]
    metric: Literal["auc", "tpr_at_fpr_0.01"] = "auc"
    margin: float = 0.01
    expected: float | None = None
    times: float = 1.0
    without: tuple[str, ...] = ()
    leaked: tuple[int, ...] = Field((), description="leaks of the claim; all but 0 if none is named")


class Agreement(Section):
    """Two implementations of the same algorithm, given the same numbers, nobody leaked."""

    ours: str
    theirs: str


class Comparison(Section):
    """The whole comparison."""

    people: People
    networks: tuple[Network, ...]
    training: TrainingConfig
    trainings: Trainings
    attacks: Attacks
    claims: tuple[Claim, ...] = ()
    agreements: tuple[Agreement, ...] = ()

    @model_validator(mode="after")
    def _leaves_enough(self) -> "Comparison":
        others = self.people.pool - self.people.members
        if max(self.attacks.leaked) >= min(self.people.members, others):
            raise ValueError("leaked participants must be fewer than members and than non-members")
        if self.trainings.references_a_target > self.trainings.references:
            raise ValueError("a target cannot be attacked with more references than are trained")
        return self


def read_settings(path: Path) -> Comparison:
    """Return the comparison that the TOML file at ``path`` describes."""
    return Comparison.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
