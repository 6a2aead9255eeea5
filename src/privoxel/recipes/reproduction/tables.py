"""Which federations each of the paper's tables needs, and their configuration at each scale."""

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from types import MappingProxyType
from typing import NamedTuple

from privoxel.config import check_settings
from privoxel.errors import ConfigError
from privoxel.recipes.federation.settings import FederateConfig
from privoxel.recipes.reproduction.published import ENVIRONMENTS, IID

SCALES = ("demo", "small", "paper")
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


def cells_of(what: str) -> tuple[Cell, ...]:
    """Return the federations of a table or figure, or of ``all``.

    Raises:
        ConfigError: if there is no such table here.
    """
    if what == "all":
        return tuple(dict.fromkeys(cell for cells in TABLES.values() for cell in cells))
    if what not in TABLES:
        raise ConfigError(
            f"reproduce gupta2021 needs one of {', '.join((*TABLES, 'all'))}, got {what!r}. Choose one."
        )
    return TABLES[what]


def config_of(scale: str, cell: Cell, *, seed: int | None = None) -> FederateConfig:
    """Return the configuration of a federation at ``scale``.

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
    return check_settings(FederateConfig, settings, where=f"federation_{scale}.toml")
