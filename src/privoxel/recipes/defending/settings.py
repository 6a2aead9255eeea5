"""The configuration of a frontier: a run's sections, and the settings to compare.

``[[points]]`` are settings one by one; a ``[[grid]]`` is one setting at several values. Each has the sections
that it changes: ``model``, ``training``, ``privacy`` and ``defence``. Cohort, split and attacks are common to
all, so that every model is judged by the same adversaries on the same people.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, JsonValue, model_validator

from privoxel.config import RunConfig, check_settings, parse_config, read_mapping
from privoxel.errors import ConfigError
from privoxel.recipes.configs import path_of
from privoxel.sections import Positive, Section

CHANGED = ("model", "training", "privacy", "defence")
"""Sections that a setting may change."""
EXTENDS = "extends"
UNDEFENDED = "none"
"""The family of the setting that the others are compared with."""

Changes = Mapping[str, JsonValue]


class PointConfig(Section):
    """One setting to train, by the sections it changes."""

    name: Annotated[str, Field(min_length=1)]
    family: Annotated[str, Field(min_length=1)]
    model: Changes = Field(default_factory=dict)
    training: Changes = Field(default_factory=dict)
    privacy: Changes = Field(default_factory=dict)
    defence: Changes = Field(default_factory=dict)

    @property
    def changes(self) -> dict[str, dict[str, Any]]:
        """What differs from the common sections, by section; nothing empty."""
        return {section: dict(getattr(self, section)) for section in CHANGED if getattr(self, section)}


class GridConfig(Section):
    """One setting at several values: ``setting`` is its dotted key, such as ``privacy.epsilon``.

    ``name`` may hold ``{value}``; the sections are changed at every value alike.
    """

    name: Annotated[str, Field(min_length=1)]
    family: Annotated[str, Field(min_length=1)]
    setting: Annotated[str, Field(pattern=r"^(model|training|privacy|defence)(\.[a-z_]+)+$")]
    values: Annotated[tuple[JsonValue, ...], Field(min_length=1)]
    model: Changes = Field(default_factory=dict)
    training: Changes = Field(default_factory=dict)
    privacy: Changes = Field(default_factory=dict)
    defence: Changes = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_differ(self) -> "GridConfig":
        if len(self.values) > 1 and "{value}" not in self.name:
            raise ValueError("the name of a grid of several values needs {value} in it")
        return self

    def points(self) -> Iterator[PointConfig]:
        """Yield the point of every value."""
        section, *path = self.setting.split(".")
        for value in self.values:
            sections = {name: dict(getattr(self, name)) for name in CHANGED}
            sections[section] = merged(sections[section], _nested(path, value))
            shown = f"{value:g}" if isinstance(value, int | float) else str(value)
            yield PointConfig(name=self.name.replace("{value}", shown), family=self.family, **sections)


class FrontierConfig(Section):
    """How the settings are compared."""

    title: str = "Utility against vulnerability"
    reference: str | None = Field(None, description="setting to compare with; default: the undefended one")
    metric: Literal["balanced_accuracy", "auc"] = Field(
        "balanced_accuracy", description="of the best attack, on the vulnerability axis"
    )
    tolerated_loss: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="share by which the test MAE of the recommended setting may be larger"
    )
    aim: Annotated[float, Field(gt=0.5, le=1)] = Field(
        0.55, description="what the upper end of the recommended setting's vulnerability should not exceed"
    )
    draws: Positive = Field(1000, description="resamples of the participants")


class DefendConfig(Section):
    """The sections beside those of a run."""

    frontier: FrontierConfig = FrontierConfig()
    points: tuple[PointConfig, ...] = ()
    grid: tuple[GridConfig, ...] = ()


class Point(NamedTuple):
    """One setting ready to run; ``folder`` is the name of its run folder."""

    name: str
    family: str
    folder: str
    config: RunConfig
    changes: Mapping[str, Mapping[str, Any]]


class Grid(NamedTuple):
    """All settings of a frontier, what is common to them, and how they are compared."""

    frontier: FrontierConfig
    base: RunConfig
    points: tuple[Point, ...]

    @property
    def reference(self) -> str:
        """The name of the setting that the others are compared with."""
        undefended = next((point.name for point in self.points if point.family == UNDEFENDED), "")
        return self.frontier.reference or undefended


def load_grid(path: Path, *, seed: int | None = None) -> Grid:
    """Return the settings of a configuration file; ``seed`` takes the place of its own.

    ``extends = "NAME"`` takes everything from a built-in configuration but for what the file itself says.

    Raises:
        ConfigError: naming every wrong key of the common sections, or of all settings.
    """
    settings = dict(read_mapping(path))
    if EXTENDS in settings:
        settings = merged(read_mapping(path_of(str(settings.pop(EXTENDS)))), settings)
    return parse_grid(settings, where=str(path), seed=seed)


def parse_grid(settings: Mapping[str, Any], *, where: str, seed: int | None = None) -> Grid:
    """Return checked settings from plain values; ``where`` names their origin in errors.

    Each model is trained on one thread: as many at a time as there are workers.

    Raises:
        ConfigError: naming every wrong key of the common sections, or of all settings.
    """
    own = {key: settings[key] for key in DefendConfig.model_fields if key in settings}
    common = {key: value for key, value in settings.items() if key not in own}
    if seed is not None:
        common["seed"] = seed
    common["training"] = {**common.get("training", {}), "threads": 1}
    config = check_settings(DefendConfig, own, where=where)
    base = parse_config(common, where=where)
    entries = [*config.points, *(point for grid in config.grid for point in grid.points())]
    _check(entries, config, base, where)
    points, faults = [], []
    for entry in entries:
        try:
            points.append(_point(entry, common, where))
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(faults))
    return Grid(config.frontier, base, tuple(points))


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``changes``, mapping by mapping.

    >>> merged({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    found = dict(base)
    for key, value in changes.items():
        inner = found.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        found[key] = merged(inner, value) if both else value  # type: ignore[arg-type]
    return found


def _point(entry: PointConfig, common: Mapping[str, Any], where: str) -> Point:
    changes = entry.changes
    sections = {name: changes[name] for name in CHANGED[1:] if name in changes}
    settings = merged(common, sections)
    if "model" in changes:
        settings["models"] = [merged(model, changes["model"]) for model in common.get("models", [{}])]
    title = f"{settings.get('report', {}).get('title', 'Frontier')}: {entry.name}"
    settings = merged(settings, {"report": {"title": title}})
    config = parse_config(settings, where=f"{where}, setting {entry.name!r}")
    return Point(entry.name, entry.family, folder_of(entry.name), config, changes)


def folder_of(name: str) -> str:
    """Return the folder name of a setting.

    >>> folder_of("DP, ε = 8")
    'dp-8'
    """
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "setting"


def _check(entries: Sequence[PointConfig], config: DefendConfig, base: RunConfig, where: str) -> None:
    """Raise ``ConfigError`` if the settings cannot be told apart, or have nothing to be compared with."""
    folders = [folder_of(entry.name) for entry in entries]
    twice = sorted({folder for folder in folders if folders.count(folder) > 1})
    if len(entries) < 2 or twice:
        raise ConfigError(
            f"{where} needs two or more settings ([[points]], [[grid]]) with different names, got "
            f"{len(entries)}{', twice ' + ', '.join(twice) if twice else ''}. Add or rename some."
        )
    if len(base.models) != 1:
        raise ConfigError(f"{where} needs one model in [[models]], got {len(base.models)}. Keep one.")
    reference = config.frontier.reference
    known = [entry.name for entry in entries]
    if reference is not None and reference not in known:
        raise ConfigError(
            f"{where}: [frontier] reference needs the name of a setting, got {reference!r}. "
            f"Choose among {', '.join(known)}."
        )
    if reference is None and not any(entry.family == UNDEFENDED for entry in entries):
        raise ConfigError(
            f"{where} needs a setting of family {UNDEFENDED!r} to compare with, got none. Add it, or name "
            "another in [frontier] reference."
        )


def _nested(path: Sequence[str], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value
