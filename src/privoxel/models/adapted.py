"""Any network as a model that can be audited white-box: what it returns, its loss, and its layers by role.

``WhiteBox`` says how a network is used; ``AdaptedModel`` is the module that signals are extracted from.
Attacks know the layers of Gupta et al. 2021 by name; for other networks these names stand for roles:

==========  =====================================================================================
name        role
==========  =====================================================================================
conv1       the first convolution (without any: the first layer) of the forward pass
conv6       the last convolution before the head (without any: the layer before it)
output      the head: the last convolution or linear layer of the forward pass
conv5       for activations: what the layer ``conv6`` reads, averaged over space for each channel
==========  =====================================================================================

A layer plays a role by itself only if it has at most ``LARGEST`` weights, since a gradient of that size is
kept for every scan; the last convolution is then the last one that is small enough.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, final

import torch
from torch import Tensor, nn

from privoxel.errors import ModelError
from privoxel.models.heads import Head, Scalar

FIRST, LAST, HEAD = "conv1", "conv6", "output"
ROLES = (FIRST, LAST, HEAD)
READ_BY_LAST = "conv5"
NET = "net."
READS = "@reads"
LARGEST = 2**17
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

Prepare = Callable[[Tensor], Tensor]
"""From volumes (scans, 1, x, y, z) as the cohort gives them to what the network reads."""
Choice = str | int | tuple[str | int, ...] | None
"""Which of several things that a network returns is its output: a key, a position, or several of them."""


@final
@dataclass(frozen=True)
class WhiteBox:
    """A network to audit with its weights at hand.

    ``head`` turns its output into years and losses. ``prepare`` makes the network's input of the cohort's
    volumes. ``output`` chooses among several things that it returns, by key or position; a tuple of them is
    put side by side. ``layers`` names submodules whose weight gradients are wanted besides the roles';
    ``roles`` overrides which submodule plays conv1, conv6 or output.

    >>> WhiteBox(nn.Linear(3, 1), roles={"output": ""}).head
    Scalar(loss='mse', target=None, targets=(), offset=0.0, scale=1.0, delta=1.0)

    Raises:
        ModelError: if ``net`` is no network.
    """

    net: nn.Module = field(repr=False)
    head: Head = field(default_factory=Scalar)
    prepare: Prepare | None = None
    output: Choice = None
    layers: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if not isinstance(self.net, nn.Module):
            raise ModelError(
                f"WhiteBox needs a network (an nn.Module), got {_kind(self.net)}. Give the network itself."
            )


@final
@dataclass(frozen=True)
class Located:
    """Submodules that signals are taken from.

    ``roles`` maps the names that attacks know to submodules, ``extra`` are those the user named besides;
    ``reads`` is the one whose input is the activation signal, "" where there is none.
    """

    roles: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    extra: tuple[str, ...] = ()
    reads: str = ""

    @property
    def described(self) -> dict[str, str]:
        """Return the submodule behind each name that attacks know."""
        activation = {READ_BY_LAST: f"what {self.reads} reads"} if self.reads else {}
        return {**self.roles, **activation}


@final
class AdaptedModel(nn.Module):
    """A brought network in the form that signals are extracted from.

    ``located`` says which submodules signals are taken from; ``adapt`` finds them.
    """

    def __init__(self, box: WhiteBox, located: Located | None = None) -> None:
        super().__init__()
        self.net = box.net
        self.head = box.head
        self.located = located or Located()
        self.box = box

    def __deepcopy__(self, memo: dict[int, Any]) -> "AdaptedModel":
        """Return the same around a copy of the network, whose weights can then change."""
        box = replace(self.box, net=deepcopy(self.net, memo))
        return AdaptedModel(box, self.located).train(self.training)

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers of which gradients or activations can be had, by their names in this module."""
        places = self.located
        own = dict.fromkeys(f"{NET}{name}" for name in (*places.roles.values(), *places.extra))
        return (*own, *((f"{NET}{places.reads}{READS}",) if places.reads else ()))

    def forward(self, volumes: Tensor) -> Tensor:
        """Return the network's output, scans first, that the head reads."""
        first = next(self.net.parameters(), None)
        inputs = volumes if first is None else volumes.to(first.dtype)
        if self.box.prepare is not None:
            inputs = self.box.prepare(inputs)
        returned = self.net(inputs)
        if len(volumes) == 1:
            returned = _with_scan_axis(returned)
        return chosen_output(returned, self.box.output)

    @contextmanager
    def layer_outputs(self, layers: Sequence[str], found: dict[str, Tensor]) -> Iterator[None]:
        """Put activations of the named layers into ``found`` when the model runs inside the block.

        Axes after the channels are averaged; a name that ends in ``@reads`` stands for a layer's input.
        """
        hooks = []
        for layer in layers:
            module = self.get_submodule(layer.removesuffix(READS))
            if layer.endswith(READS):
                hooks.append(module.register_forward_pre_hook(_input_recorder(layer, found)))
            else:
                hooks.append(module.register_forward_hook(_output_recorder(layer, found)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def activations(self, volumes: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return the activations of the named layers (scans, channels)."""
        found: dict[str, Tensor] = {}
        with torch.no_grad(), self.layer_outputs(layers, found):
            self(volumes)
        return found


def adapt(box: WhiteBox, volumes: Tensor) -> AdaptedModel:
    """Return the model of ``box`` in evaluation mode, its layers found by one pass over ``volumes``.

    Raises:
        ModelError: naming every layer that was asked for and is not there, or has no weight.
    """
    model = AdaptedModel(box).eval()
    used = layers_in_order(model, volumes)
    _check_named(box, used)
    roles = find_roles(box.net, used, box.roles)
    extra = tuple(name for name in dict.fromkeys(box.layers) if name not in roles.values())
    reads = roles.get(LAST, roles.get(HEAD, ""))
    if reads:
        (seen,) = model.activations(volumes, (f"{NET}{reads}{READS}",)).values()
        # slices folded into the batch are several rows of one scan: whose is whose cannot be known here
        reads = reads if len(seen) == len(volumes) and seen[0].numel() <= LARGEST else ""
    return AdaptedModel(box, Located(roles, extra, reads)).eval()


def chosen_output(returned: Any, choice: Choice) -> Tensor:
    """Return the tensor that the head reads of whatever a network returned.

    A list of one tensor stands for it; tensors of one value per scan each, and several chosen ones, are put
    side by side.

    Raises:
        ModelError: if it is not clear which tensor is meant.
    """
    if isinstance(choice, tuple):
        parts = [chosen_output(returned, part) for part in choice]
        return torch.cat([part.reshape(len(part), -1) for part in parts], dim=1)
    if choice is not None:
        try:
            returned = returned[choice]
        except (KeyError, IndexError, TypeError) as error:
            raise ModelError(
                f"Model output needs {choice!r} among what the network returns, got {_shown(returned)}. "
                "Correct output=."
            ) from error
    if isinstance(returned, list | tuple) and len(returned) == 1:
        returned = returned[0]
    if isinstance(returned, list | tuple) and len(returned) > 1 and all(map(_is_single, returned)):
        returned = torch.cat([part.reshape(len(part), 1) for part in returned], dim=1)
    if not isinstance(returned, Tensor):
        raise ModelError(
            f"Model output needs a tensor, got {_shown(returned)}. "
            "Say which one by output= (a key or position)."
        )
    return returned.as_subclass(Tensor)


def layers_in_order(model: nn.Module, volumes: Tensor) -> tuple[str, ...]:
    """Return the convolutions and linear layers of ``model.net`` in the order of their first use."""
    used: dict[str, None] = {}
    hooks = [
        module.register_forward_hook(lambda *_, name=name: used.setdefault(name.removeprefix(NET)))
        for name, module in model.named_modules()
        if isinstance(module, (*CONVOLUTIONS, nn.Linear))
    ]
    try:
        with torch.no_grad():
            model(volumes)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(used)


def find_roles(net: nn.Module, used: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    """Return the layer of each role, given the layers in the order of their use; ``named`` ones as they are.

    Every role has a layer of its own: in a network of one layer only the head is found.
    """
    small = [name for name in used if net.get_submodule(name).get_parameter("weight").numel() <= LARGEST]
    roles = dict(named)
    if HEAD not in roles and small and used[-1] in small:
        roles[HEAD] = used[-1]
    body = [name for name in small if name != used[-1] and name not in roles.values()]
    body = [name for name in body if isinstance(net.get_submodule(name), CONVOLUTIONS)] or body
    if body and LAST not in roles:
        roles[LAST] = body.pop()
    if body and FIRST not in roles:
        roles[FIRST] = body[0]
    return {role: roles[role] for role in ROLES if role in roles}


def _check_named(box: WhiteBox, used: Sequence[str]) -> None:
    wrong = [role for role in box.roles if role not in ROLES]
    modules = dict(box.net.named_modules())
    asked = [*box.roles.values(), *box.layers]
    lacking = [name for name in asked if not isinstance(getattr(modules.get(name), "weight", None), Tensor)]
    clash = [name for name in box.layers if name in ROLES and box.roles.get(name, name) != name]
    faults = []
    if wrong:
        faults.append(f"roles needs {', '.join(ROLES)}, got {', '.join(wrong)}")
    if lacking:
        faults.append(f"layers need submodules with a weight, got {', '.join(lacking)}")
    if clash:
        faults.append(f"layers called {', '.join(clash)} have the name of a role that another layer plays")
    if faults:
        raise ModelError(f"Model: {'; '.join(faults)}. Choose among {', '.join(used)}.")


def _input_recorder(name: str, found: dict[str, Tensor]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        found[name] = _averaged(inputs[0], channels_last=isinstance(module, nn.Linear))

    return hook


def _output_recorder(name: str, found: dict[str, Tensor]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
        found[name] = _averaged(output, channels_last=isinstance(module, nn.Linear))

    return hook


def _averaged(maps: Tensor, *, channels_last: bool) -> Tensor:
    """Return channel means (scans, channels), copied before anything overwrites the maps."""
    maps = maps.detach().as_subclass(Tensor)
    if maps.dim() < 3:
        return maps.clone()
    return maps.flatten(1, -2).mean(1) if channels_last else maps.flatten(2).mean(2)


def _with_scan_axis(returned: Any) -> Any:
    """Return what a network returned for a single scan, with the axis of scans where squeeze() took it."""
    if isinstance(returned, Tensor):
        return returned if returned.dim() and len(returned) == 1 else returned.unsqueeze(0)
    if isinstance(returned, Mapping):
        return {key: _with_scan_axis(part) for key, part in returned.items()}
    if isinstance(returned, list | tuple):
        return [_with_scan_axis(part) for part in returned]
    return returned


def _is_single(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and value.numel() == len(value)


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _shown(returned: Any) -> str:
    if isinstance(returned, Mapping):
        return f"a dictionary of {', '.join(map(str, returned))}"
    if isinstance(returned, list | tuple):
        return f"{len(returned)} values ({', '.join(type(part).__name__ for part in returned)})"
    return type(returned).__name__
