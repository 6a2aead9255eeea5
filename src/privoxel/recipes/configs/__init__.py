"""Configurations that come with privoxel, by name."""

import tomllib
from importlib.resources import files
from pathlib import Path

from privoxel.config import RunConfig, parse_config


def built_in(name: str) -> RunConfig:
    """Return the built-in configuration called ``name``."""
    text = files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return parse_config(tomllib.loads(text), where=f"{name}.toml")


def path_of(name: str) -> Path:
    """Return the file of the built-in configuration called ``name``."""
    return Path(str(files(__package__).joinpath(f"{name}.toml")))
