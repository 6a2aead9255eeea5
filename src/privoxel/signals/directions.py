"""Learners' updates and movements between snapshots, as directions for ``product:`` signals.

An update is Δ = local model − the community model that the round started from. Local SGD goes down the loss,
so Δ points along MINUS the gradient of the learner's own scans: a member has a negative product with it.
Attacks compare with −Δ (``attacks.updates``).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from privoxel.errors import SignalError

Direction = Mapping[str, Tensor]


def direction_name(number: int, learner: str) -> str:
    """Return the file-safe name of the update of ``learner`` in round ``number`` (from 1).

    >>> direction_name(3, "L2")
    'update-0003-L2'
    """
    return f"update-{number:04d}-{learner}"


def update_directions(
    rounds: Sequence[Path], updates: Mapping[tuple[int, str], Path], parameters: Iterable[str]
) -> dict[str, Direction]:
    """Return Δ by parameter name for each kept update, by ``direction_name``.

    Args:
        rounds: files of the community models, the initial one first (``Federation.rounds``).
        updates: files of local models by (round, learner) (``Federation.updates``).
        parameters: names of the trainable tensors; buffers have no gradient and are left out.

    Raises:
        SignalError: if a file lacks a parameter.
    """
    names = tuple(parameters)
    return {
        direction_name(number, learner): _difference(path, rounds[number - 1], names)
        for (number, learner), path in updates.items()
    }


def movement(before: Path, after: Path, parameters: Iterable[str]) -> Direction:
    """Return Δ by parameter name: the weights in ``after`` minus those in ``before``.

    Raises:
        SignalError: if a file lacks a parameter.
    """
    return _difference(after, before, tuple(parameters))


def direction_norm(direction: Direction) -> float:
    """Return ‖Δ‖ over all tensors, summed in double precision."""
    return float(sum(tensor.double().square().sum() for tensor in direction.values())) ** 0.5


def _difference(local: Path, community: Path, names: tuple[str, ...]) -> dict[str, Tensor]:
    after, before = load_file(local), load_file(community)
    lacking = [name for name in names if name not in after or name not in before]
    if lacking:
        raise SignalError(
            f"Update {local.name} needs the parameters of this model, got files without {lacking[0]}. "
            "Give the updates of the same federation."
        )
    return {name: (after[name].to(torch.float32) - before[name].to(torch.float32)) for name in names}
