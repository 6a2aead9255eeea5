"""Which federations each of the paper's tables needs, and their configuration at each scale."""

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from types import MappingProxyType
from typing import NamedTuple

from privoxel.config import check_settings
from privoxel.errors import ConfigError
from privoxel.recipes.federation.settings import FederateConfig
from privoxel.recipes.reproduction.central import PARTS, SCALES
from privoxel.recipes.reproduction.published import ENVIRONMENTS, IID, SKEWED

BOTH = ("cnn3d", "slice-mean")


class Cell(NamedTuple):
    """One federation of a table."""

    model: str
    environment: str

    @property
    def name(self) -> str:
        """Its folder."""
        return f"{self.model}-{self.environment}"


def _grid(models: Sequence[str], environments: Sequence[str] = ENVIRONMENTS) -> tuple[Cell, ...]:
    return tuple(Cell(model, environment) for model in models for environment in environments)


TABLES: Mapping[str, tuple[Cell, ...]] = MappingProxyType(
    {
        "table2": _grid(BOTH),
        "table4": _grid(BOTH),
        "table5": _grid(BOTH),
        "table6": _grid(("cnn3d",)),
        "table7": _grid(("slice-mean",)),
        "fig2": _grid(BOTH, (IID,)),
        "fig4": (),
        "fig5": _grid(("slice-mean",)),
    }
)
"""What can be reproduced, and the federations that it needs; figure 4 needs ages only."""


EVERYTHING = (
    *("table1", "table2", "table3", "table4", "table5", "table6", "table7"),
    *("fig1", "fig2", "fig3", "fig4", "fig5", "fig7", "fig8", "appendix-e"),
)
"""All that can be reproduced, in the paper's order."""
DEMO_ALL: tuple[Cell, ...] = (Cell("cnn3d", IID), Cell("cnn3d", SKEWED))
"""Federations of ``all`` at demo scale, which has to end within 40 minutes."""


def cells_of(what: str, scale: str) -> tuple[Cell, ...]:
    """Return the federations that a table or figure, or ``all`` at a scale, needs; none for central ones.

    Raises:
        ConfigError: if there is no such table.
    """
    if what == "all":
        everything = tuple(dict.fromkeys(cell for cells in TABLES.values() for cell in cells))
        return DEMO_ALL if scale == "demo" else everything
    if what not in {*TABLES, *PARTS}:
        raise ConfigError(
            f"reproduce gupta2021 needs one of {', '.join((*EVERYTHING, 'all'))}, got {what!r}. Choose one."
        )
    return TABLES.get(what, ())


def config_of(scale: str, cell: Cell, *, seed: int | None = None, real: bool = False) -> FederateConfig:
    """Return the configuration of a federation at ``scale``; with ``real`` for a cohort given by the user.

    Raises:
        ConfigError: if there is no such scale.
    """
    if scale not in SCALES:
        raise ConfigError(f"--scale needs one of {', '.join(SCALES)}, got {scale!r}. Choose one.")
    text = files("privoxel.recipes.configs").joinpath(f"federation_{scale}.toml").read_text(encoding="utf-8")
    settings = tomllib.loads(text)
    own = settings.pop("overrides", {}).get(cell.model, {})
    for section, values in own.items():
        settings[section] = {**settings.get(section, {}), **values}
    settings["model"] = {**settings["model"], "name": cell.model}
    settings["partition"] = {**settings["partition"], "environment": cell.environment}
    settings["title"] = f"Gupta et al. 2021, federation: {cell.model}, {cell.environment}, scale {scale}"
    if seed is not None:
        settings["seed"] = seed
    if real:
        settings["cohort"] = {"kind": "real", "resolution_mm": settings["cohort"]["resolution_mm"]}
    return check_settings(FederateConfig, settings, where=f"federation_{scale}.toml")
