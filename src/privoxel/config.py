"""A run's configuration: TOML or YAML in, frozen and checked settings out.

Every section is one frozen model with its defaults; unknown keys and all errors are reported at
once. A configuration names no path of a data set: the cohort is given on the command line.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from privoxel.defence_config import DefenceConfig
from privoxel.errors import ConfigError
from privoxel.privacy_config import CanaryConfig, PrivacyConfig
from privoxel.sections import MEMORY_PATTERN, Count, Positive, Section, bytes_of

Size = Annotated[int, Field(strict=True, ge=0)] | Annotated[float, Field(strict=True, ge=0, le=1)]


Settings = TypeVar("Settings", bound=BaseModel)


class CohortConfig(Section):
    """Which scans: simulated ones, or those of the folder or table given by ``--cohort``."""

    kind: Literal["simulated", "real"] = "simulated"
    resolution_mm: Annotated[float, Field(ge=1, le=10)] = 4.0
    participants: Positive = Field(900, description="simulated participants")
    sessions: Positive = Field(1, description="simulated scans a participant")
    seed: int | None = Field(None, description="seed of the simulated people; default: the run's seed")
    normalise: Literal["all", "brain"] = Field("all", description="voxels of the z-score")
    where: Mapping[str, tuple[str, ...]] = Field({}, description="values of participants.tsv columns to keep")


class SplitConfig(Section):
    """Who is a member: counts of participants, or fractions of the cohort."""

    members: Size = 0.5
    non_members: Size = 0.5
    others: Size = Field(0, description="a disjoint group that trains the null target")
    validation: Size = Field(0, description="held out for the training curve only")
    population: Size = Field(
        0, description="nobody trains on them, and the adversary knows that: background for attacks"
    )
    coin: bool = Field(
        False,
        description="each of members and non-members (then equal numbers) becomes one or the other by a fair "
        "coin, which a one-run bound on ε needs",
    )
    stratify: Literal["age"] | None = "age"
    designs: Positive = Field(1, description="independent random memberships")
    trainings: Positive = Field(
        1, description="targets of each design, trained from other seeds: their spread is told apart"
    )
    null_target: bool | None = Field(None, description="false: no null target although there are others")
    train_sessions: Positive | Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None,
        description="sessions of each person that train and are attacked, so many (the first) or those of "
        "these labels; the others are what an adversary may hold instead; default: all",
    )

    @model_validator(mode="after")
    def _coins_are_fair(self) -> "SplitConfig":
        if self.coin and self.members != self.non_members:
            raise ValueError(
                f"coin = true needs as many members as non_members, got {self.members} and "
                f"{self.non_members}: each of their sum is a member with probability one half"
            )
        return self


class ModelConfig(Section):
    """One audited model."""

    name: str = "cnn3d"
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    head: Literal["paper", "scaled"] = "paper"
    scale: Annotated[float, Field(gt=0)] = 70.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    axis: Literal[0, 1, 2] = 0
    epochs: Positive | None = Field(None, description="overrides [training] epochs for this model")
    stated_mae: float | None = Field(None, description="MAE the model is known to reach, years")


class TrainingConfig(Section):
    """Central training; the defaults are the paper's (Gupta et al. 2021, A.1; ISBI 2021, 3.3)."""

    epochs: Positive = 100
    batch_size: Positive = 8
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    optimiser: Literal["adam", "sgd"] = "adam"
    snapshot_every: Positive = Field(
        10, description="epochs between snapshots; the last epoch is always kept"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    threads: Count = Field(0, description="CPU threads; 0 takes all")


class SignalConfig(Section):
    """What is extracted for each scan; the attacks' needs are added by themselves."""

    extra: tuple[str, ...] = ()
    batch_size: Count = Field(0, description="scans of a pass; 0 takes what fits into the memory")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16 only where the device's kernels are sound (docs/signals.md)"
    )
    memory: Annotated[str, Field(pattern=MEMORY_PATTERN)] = Field(
        "4GiB", description="what a pass may take, such as 512MiB or 4GiB"
    )

    @property
    def memory_bytes(self) -> int:
        """``memory`` in bytes."""
        return bytes_of(self.memory)


class ShadowConfig(Section):
    """Reference models, trained as the target is on participants whose membership is then known."""

    count: Count = Field(0, description="shadow models for each model and design; 0 trains none")
    design: Literal["balanced", "population"] = Field(
        "balanced", description="on halves of the judged participants, or on the split's others alone"
    )
    fraction: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="share of them that trains each; default: half, or as many as train the target"
    )
    epochs: Positive | None = Field(None, description="default: as many as the target")
    warm_start: bool | Literal["target"] = Field(
        False, description="later shadows start from the first one's weights; 'target': all from the target's"
    )
    distilled: Count = Field(
        0, description="students of each target: taught its predictions on the split's others"
    )

    @model_validator(mode="after")
    def _warm_starts_stay_outside(self) -> "ShadowConfig":
        if self.warm_start and self.design != "population":
            raise ValueError(
                "warm_start needs design = 'population': others would inherit scans they are outside of"
            )
        return self


class AttackConfig(Section):
    """Which attacks run, with what knowledge."""

    names: tuple[str, ...] = ("all",)
    without: tuple[str, ...] = Field((), description='attacks that "all" does not stand for')
    primary: str = Field("abs-error", description="the one attack the verdict and the null are judged on")
    protocol: Literal["reproduction", "audit"] = "audit"
    repeats: Positive | None = Field(
        None, description="draws of the leaked set (reproduction: 5) or attackers (audit: 4)"
    )
    null_target: tuple[str, ...] = Field((), description="attacks run on the null target besides the primary")
    other_scans: tuple[str, ...] = Field(
        (),
        description="attacks run on the sessions that did not train, besides the primary",
    )


class ReportConfig(Section):
    """What the report says and shows."""

    title: str = "Membership-inference audit"
    tolerated_auc: Annotated[float, Field(gt=0.5, le=1)] = 0.6
    slices: Count = Field(
        4, description="simulated scans pictured; real ones only with --include-participants"
    )
    smallest_group: Annotated[int, Field(ge=2)] = Field(
        5, description="people a group must have to be shown; smaller ones are merged or left out"
    )
    prevalences: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.5, 0.1, 0.01), description="shares of members among those tested, at which precision is stated"
    )


class PartitionConfig(Section):
    """How a federation divides a cohort (docs/federations.md); with ``site``, its sites are the learners."""

    environment: Literal["uniform-iid", "uniform-non-iid", "skewed-non-iid", "dirichlet", "site"] = (
        "uniform-iid"
    )
    learners: Positive = 8
    sizes: tuple[Positive, ...] | None = Field(None, description="participants of each learner")
    unseen: Annotated[float, Field(ge=0, lt=1)] = Field(0.2, description="share that no learner sees")
    ages: Literal["scaled", "paper"] = Field(
        "scaled",
        description="the ages learners look for: moved to the cohort's mean and SD, or as in the paper",
    )
    ratio: Annotated[float, Field(ge=1)] = Field(1.35, description="skewed: size of a learner over the next")
    alpha: Annotated[float, Field(gt=0)] = Field(0.5, description="dirichlet: the smaller, the more unlike")
    smallest_site: Positive = Field(10, description="site: participants that a site must have")

    @model_validator(mode="before")
    @classmethod
    def _count_sizes(cls, settings: Any) -> Any:
        if isinstance(settings, Mapping) and settings.get("sizes") and "learners" not in settings:
            return {**settings, "learners": len(settings["sizes"])}
        return settings

    @model_validator(mode="after")
    def _sizes_fit(self) -> "PartitionConfig":
        if self.sizes is not None and self.environment == "site":
            raise ValueError("sizes are those of the sites; drop sizes or choose another environment")
        if self.sizes is not None and len(self.sizes) != self.learners:
            raise ValueError(f"{self.learners} learners need as many sizes, got {len(self.sizes)}")
        return self


class RunConfig(Section):
    """A whole run."""

    seed: int = 0
    cohort: CohortConfig = CohortConfig()
    split: SplitConfig = SplitConfig()
    canaries: CanaryConfig | None = None
    models: Annotated[tuple[ModelConfig, ...], Field(min_length=1)] = (ModelConfig(),)
    training: TrainingConfig = TrainingConfig()
    privacy: PrivacyConfig | None = None
    defence: DefenceConfig | None = None
    signals: SignalConfig = SignalConfig()
    attacks: AttackConfig = AttackConfig()
    shadows: ShadowConfig = ShadowConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _models_are_distinct(self) -> "RunConfig":
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            raise ValueError(f"models need distinct names, got {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _coins_decide_nothing_else(self) -> "RunConfig":
        if self.split.coin and self.attacks.protocol != "audit":
            raise ValueError(
                "[split] coin needs [attacks] protocol = 'audit': the other leaks by membership, after which "
                "those left are no longer tossed by coins"
            )
        return self

    @model_validator(mode="after")
    def _some_sessions_are_left(self) -> "RunConfig":
        trained, sessions = self.split.train_sessions, self.cohort.sessions
        count = len(set(trained)) if isinstance(trained, tuple) else trained
        if count is not None and self.cohort.kind == "simulated" and count >= sessions:
            raise ValueError(
                f"[split] train_sessions = {trained} needs more [cohort] sessions than that, got {sessions}; "
                "raise them"
            )
        if self.attacks.other_scans and trained is None:
            raise ValueError("[attacks] other_scans needs [split] train_sessions, got none; set it")
        return self

    @model_validator(mode="after")
    def _defences_go_together(self) -> "RunConfig":
        defence, private = self.defences, self.privacy is not None
        faults = list(defence.conflicts(private=private, validation=bool(self.split.validation)))
        if defence.needs_public and self.cohort.normalise != "all":
            faults.append("public brains are normalised over all voxels ([cohort] normalise = 'all')")
        if faults:
            raise ValueError(f"[defence] {'; '.join(faults)}")
        return self

    @property
    def defences(self) -> DefenceConfig:
        """What is done against attacks: nothing where there is no section."""
        return self.defence or DefenceConfig()

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values that JSON and TOML can hold."""
        return self.model_dump(mode="json", exclude_none=True)


def partition_config(**settings: Any) -> PartitionConfig:
    """Return how to divide a cohort, from settings by name; None stands for the default.

    Raises:
        ConfigError: naming every wrong value at once.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    return check_settings(PartitionConfig, given, where="The partition")


def with_memory(config: RunConfig, memory: str) -> RunConfig:
    """Return ``config`` with another memory budget for signals, such as ``4GiB``.

    Raises:
        ConfigError: if that is not a number and MiB or GiB.
    """
    signals = {**config.signals.model_dump(), "memory": memory}
    return parse_config({**config.to_dict(), "signals": signals}, where="--memory")


def load_config(path: Path) -> RunConfig:
    """Read a configuration from a ``.toml``, ``.yaml`` or ``.yml`` file.

    Raises:
        ConfigError: naming every unknown key and every wrong value at once.
    """
    return parse_config(read_mapping(path), where=str(path))


def parse_config(settings: Mapping[str, Any], *, where: str = "configuration") -> RunConfig:
    """Return checked settings from plain values; ``where`` names their origin in errors.

    Raises:
        ConfigError: naming every unknown key and every wrong value at once.
    """
    return check_settings(RunConfig, settings, where=where)


def check_settings(kind: type[Settings], settings: Mapping[str, Any], *, where: str) -> Settings:
    """Return ``settings`` checked as a configuration of ``kind``; ``where`` names their origin in errors.

    Raises:
        ConfigError: naming every unknown key and every wrong value at once.
    """
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        lines = [f"  - {_key(e['loc'])}: {e['msg']}, got {_shown(e['input'])}" for e in error.errors()]
        raise ConfigError(
            f"{where} cannot be used ({len(lines)} found):\n" + "\n".join(lines) + "\nCorrect these keys."
        ) from error


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "top level"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def read_mapping(path: Path) -> Mapping[str, Any]:
    """Return the sections of a TOML or YAML file.

    Raises:
        ConfigError: if it cannot be read or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} needs to be a readable TOML or YAML file, got: {error}.") from error
    if path.suffix in {".yaml", ".yml"}:
        import yaml  # noqa: PLC0415 - only YAML users pay for it

        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} needs valid YAML, got: {error}.") from error
    else:
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} needs valid TOML, got: {error}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} needs sections of settings, got {type(content).__name__}.")
    return content
