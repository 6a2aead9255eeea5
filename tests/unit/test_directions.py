"""Directions from files: local minus the community model that its round started from."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from privoxel.errors import SignalError
from privoxel.signals.directions import direction_norm, update_directions


def stored(path: Path, value: float) -> Path:
    save_file({"conv.weight": torch.full((2, 3), value), "bn.running": torch.zeros(1)}, path)
    return path


def test_an_update_is_local_minus_the_community_model_before_its_round(tmp_path: Path) -> None:
    rounds = [stored(tmp_path / f"r{k}", float(k)) for k in range(3)]
    updates = {(2, "L1"): stored(tmp_path / "L1", 1.5)}
    directions = update_directions(rounds, updates, ["conv.weight"])
    assert list(directions) == ["update-0002-L1"]
    assert list(directions["update-0002-L1"]) == ["conv.weight"]
    assert torch.equal(directions["update-0002-L1"]["conv.weight"], torch.full((2, 3), 0.5))
    assert direction_norm(directions["update-0002-L1"]) == pytest.approx(1.5**0.5)


def test_an_update_of_another_model_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path / "L1", 0.0)
    with pytest.raises(SignalError, match="without other"):
        update_directions([path], {(1, "L1"): path}, ["other"])
