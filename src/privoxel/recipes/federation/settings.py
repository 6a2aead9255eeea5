"""The configuration of a federation: the sections of a run, and who trains, how, and who attacks."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from privoxel.config import (
    CohortConfig,
    ModelConfig,
    PartitionConfig,
    SignalConfig,
    check_settings,
    read_mapping,
)
from privoxel.sections import Count, Positive, Section
from privoxel.training.federated.job import FederationJob

Set = Literal[1, 2, 3]
SETS: tuple[Set, ...] = (1, 2, 3)


class LearnerAttackConfig(Section):
    """The malicious learner (Gupta et al. 2021, 3.2 and 4.2)."""

    sets: tuple[Set, ...] = Field(
        SETS,
        description="features: 1 gradient magnitudes; 2 with prediction and label; 3 with conv 6 and output",
    )
    primary: Set = Field(3, description="the set that controls and rounds are judged on")
    rounds: Positive = Field(5, description="last rounds whose logits are averaged")
    known: Positive = Field(1000, description="at most so many own scans, and as many unseen ones")
    by_round: Literal[0, 1, 2, 3] = Field(
        3, description="set that attacks every round's model alone as well (figure 2); 0: none"
    )
    active_rounds: Count = Field(0, description="further rounds in which a learner pushes the judged scans")
    active_rate: Annotated[float, Field(gt=0)] = Field(
        0.05, description="how far one batch of pushed scans moves the active learner's weights"
    )
    caliper: Annotated[float, Field(gt=0)] = Field(
        2.0, description="years within which an unseen participant matches a victim's age"
    )


class ControlConfig(Section):
    """What a number stands beside."""

    left_out: tuple[str, ...] | Literal["all", "one", "none"] = Field(
        "one", description="victims for whom a federation is trained again without them"
    )


class FederateConfig(Section):
    """A whole federation."""

    seed: int = 0
    title: str = "Membership inference in a federation"
    cohort: CohortConfig = CohortConfig()
    partition: PartitionConfig = PartitionConfig()
    model: ModelConfig = ModelConfig()
    federation: FederationJob = FederationJob()
    engine: Literal["in-process", "ray"] = "in-process"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = Field(0, description="CPU threads of a learner; 0 takes all, 1 is best for small maps")
    signals: SignalConfig = SignalConfig()
    attack: LearnerAttackConfig = LearnerAttackConfig()
    controls: ControlConfig = ControlConfig()

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values that JSON and TOML can hold."""
        return self.model_dump(mode="json", exclude_none=True)


def load_federation(path: Path) -> FederateConfig:
    """Read a federation's configuration from a ``.toml``, ``.yaml`` or ``.yml`` file.

    Raises:
        ConfigError: naming every unknown key and every wrong value at once.
    """
    return check_settings(FederateConfig, read_mapping(path), where=str(path))


def with_overrides(config: FederateConfig, *, seed: int | None, memory: str | None) -> FederateConfig:
    """Return ``config`` with another seed and memory budget, where they are given.

    Raises:
        ConfigError: if the budget is not a number and MiB or GiB.
    """
    settings = config.to_dict()
    if seed is not None:
        settings["seed"] = seed
    if memory is not None:
        settings["signals"] = {**settings["signals"], "memory": memory}
    return check_settings(FederateConfig, settings, where="--seed and --memory")
