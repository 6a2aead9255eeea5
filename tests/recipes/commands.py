"""The command line in this process, and the tiny run's settings with one network and few attacks."""

import json
import sys
from pathlib import Path

import pytest

from privoxel import cli

TINY = (Path(__file__).parent / "tiny.toml").read_text()


def call(monkeypatch, *arguments):
    """Run the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["privoxel", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def one_network(names, primary="rmia"):
    """Return the tiny run's settings with its 3D-CNN alone and the attacks ``names``."""
    before, slices = TINY.split('[[models]]\nname = "slice-mean"')
    rest = slices[slices.index("[training]") :]
    attacks = f'primary = "{primary}"\nnames = {json.dumps(list(names))}'
    return before + rest.replace('primary = "prediction-label"', attacks)
