"""The plan of a pass: who computes the gradient of each tensor, and which rows of it are whose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from privoxel.gradients.layers import is_known
from privoxel.gradients.rows import Rows, find_rows
from privoxel.gradients.watching import Call, watching

OPAQUE = (nn.MultiheadAttention,)  # their submodules' weights are read without calling the submodules


@final
@dataclass(frozen=True)
class Unit:
    """A module whose calls are watched.

    ``tensors`` maps its own names of parameters to the model's; ``rows`` and ``made`` tell the scans apart
    in what it reads first and in what it returns; ``arguments`` does so for every tensor it reads (None: the
    same for all scans); ``calls`` is how often a forward pass uses it.
    """

    tensors: dict[str, str]
    is_known: bool
    copies: bool
    calls: int
    rows: Rows
    made: Rows
    arguments: tuple[Rows | None, ...]


@final
@dataclass(frozen=True)
class Plan:
    """Watched modules by name, tensors that only differentiating each scan alone can give, and why."""

    units: Mapping[str, Unit]
    by_loop: tuple[str, ...]
    reasons: Mapping[str, str]

    @property
    def modules(self) -> dict[str, bool]:
        """Modules to watch, and whether their inputs must be copied."""
        return {name: unit.copies for name, unit in self.units.items()}

    def with_loop(self, reasons: Mapping[str, str]) -> "Plan":
        """Return the plan with more tensors computed scan by scan."""
        units = {
            name: replace(unit, tensors={k: v for k, v in unit.tensors.items() if v not in reasons})
            for name, unit in self.units.items()
        }
        return Plan(
            {name: unit for name, unit in units.items() if unit.tensors},
            tuple(dict.fromkeys((*self.by_loop, *reasons))),
            {**self.reasons, **reasons},
        )


class _Seen(NamedTuple):
    """The calls of one module on two scans and on the first alone."""

    both: list[Call]
    alone: list[Call]


def make_plan(model: nn.Module, tensors: Sequence[str], volumes: Tensor) -> Plan:
    """Return the plan for the gradients of ``tensors``, traced on two scans."""
    owners: dict[str, dict[str, str]] = {}
    for name in tensors:
        owner, local = _owner(model, name)
        owners.setdefault(owner, {})[local] = name
    candidates = {name: True for name in owners if _is_unit(model.get_submodule(name))}
    both, alone = (_calls(model, candidates, batch) for batch in (volumes, volumes[:1]))
    units: dict[str, Unit] = {}
    reasons: dict[str, str] = {}
    by_loop: list[str] = []
    for owner, mine in owners.items():
        module = model.get_submodule(owner)
        unit = None
        if owner in candidates:
            unit = _unit(module, mine, _Seen(both.get(owner, []), alone.get(owner, [])))
        kind = type(module).__name__
        if unit is None:
            by_loop += mine.values()
            reasons |= dict.fromkeys(
                mine.values(), f"what {kind} does with each scan could not be told apart"
            )
            continue
        units[owner] = unit
        if not unit.is_known:
            reasons |= dict.fromkeys(mine.values(), f"no kernel for {kind}: differentiated scan by scan")
    return Plan(units, tuple(by_loop), reasons)


def _owner(model: nn.Module, tensor: str) -> tuple[str, str]:
    """Return the module that a tensor is computed with, and the tensor's name in it."""
    path = tensor.split(".")
    for depth in range(1, len(path)):
        if isinstance(model.get_submodule(".".join(path[:depth])), OPAQUE):
            return ".".join(path[:depth]), ".".join(path[depth:])
    return ".".join(path[:-1]), path[-1]


def _is_unit(module: nn.Module) -> bool:
    return isinstance(module, OPAQUE) or not any(module.children())


def _calls(model: nn.Module, names: Mapping[str, bool], volumes: Tensor) -> dict[str, list[Call]]:
    found: dict[str, list[Call]] = {}
    with watching(model, names, None, volumes.device) as watched:
        model(volumes)
        for call in watched.calls:
            found.setdefault(call.module, []).append(call)
    return found


def _unit(module: nn.Module, tensors: dict[str, str], seen: _Seen) -> Unit | None:
    """Return how to compute a module's gradients, None if its scans cannot be told apart."""
    if not seen.both or len(seen.both) != len(seen.alone):
        return None
    pairs = list(zip(seen.both, seen.alone, strict=True))
    arguments = {_arguments(two, one) for two, one in pairs}
    made = {find_rows(two.output, one.output) for two, one in pairs}
    if len(arguments) != 1 or len(made) != 1:
        return None
    (read,), (returned,) = arguments, made
    rows = next((r for r in read or () if r is not None), None)
    if read is None or rows is None or returned is None:
        return None
    known = is_known(module) and read == (rows,) and rows == returned
    copies = any(call.is_modified for call in seen.both)
    return Unit(tensors, known, copies, len(pairs), rows, returned, read)


def _arguments(two: Call, one: Call) -> tuple[Rows | None, ...] | None:
    """Return how each tensor that a call read holds its scans (None: not at all), None if that is unclear."""
    found: list[Rows | None] = []
    for of_two, of_one in zip(two.tensors, one.tensors, strict=True):
        rows = find_rows(of_two, of_one)
        if rows is None and not (of_two.shape == of_one.shape and torch.equal(of_two, of_one)):
            return None
        found.append(rows)
    return tuple(found)
