"""Watching a forward pass: what named modules read and returned, with a graph only where one is needed.

No parameter asks for gradients, so the graph starts at the output of the earliest watched module and
nothing before it is ever differentiated.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn


@final
@dataclass(frozen=True)
class Call:
    """One use of a module: what it read (``originals``: before copying) and first returned."""

    module: str
    inputs: tuple[Any, ...]
    options: dict[str, Any]
    output: Tensor
    originals: tuple[Tensor, ...]
    versions: tuple[int, ...]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything it read that is a tensor."""
        return tensors_in(self.inputs, self.options)

    @property
    def is_modified(self) -> bool:
        """Return whether something overwrote what the module read."""
        return self.versions != tuple(tensor._version for tensor in self.originals)


def tensors_in(inputs: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Return the tensors among a call's arguments, in order."""
    return tuple(value for value in (*inputs, *options.values()) if isinstance(value, Tensor))


class _Start(torch.autograd.Function):
    """Give a tensor a graph, in place, so that what follows may overwrite it."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, seed: Tensor) -> Tensor:  # noqa: ARG004
        ctx.mark_dirty(maps)
        return maps

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[None, None]:  # noqa: ARG004
        return None, None


class Watched(NamedTuple):
    """A watch in progress: the calls so far, and the leaf that a backward pass must aim at."""

    calls: list[Call]
    seed: Tensor


@contextlib.contextmanager
def watching(
    model: nn.Module,
    names: Mapping[str, bool],
    on_gradient: Callable[[Call, Tensor], None] | None,
    device: torch.device,
) -> Iterator[Watched]:
    """Watch the calls of modules while the block runs.

    Args:
        model: whose modules are watched; left as it was.
        names: module names, and whether their inputs are to be copied because something overwrites them.
        on_gradient: called in the backward pass with a call and the gradient of its output; without it no
            graph is made.
        device: of the model.
    """
    watched = Watched([], torch.ones((), requires_grad=True, device=device))
    hooks = [
        model.get_submodule(name).register_forward_hook(
            _hook(name, watched, on_gradient, copies=copies), with_kwargs=True
        )
        for name, copies in names.items()
    ]
    frozen = [p for p in model.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        with torch.set_grad_enabled(on_gradient is not None):
            yield watched
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in frozen:
            parameter.requires_grad_(True)


def _hook(
    name: str, watched: Watched, on_gradient: Callable[[Call, Tensor], None] | None, *, copies: bool
) -> Callable[..., Any]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> Any:  # noqa: ARG001
        originals = tensors_in(inputs, options)
        first = output[0] if isinstance(output, tuple) else output
        if on_gradient is not None and not first.requires_grad:
            first = _Start.apply(first.detach(), watched.seed)  # type: ignore[no-untyped-call]
        call = Call(
            name,
            tuple(_kept(value, copies=copies) for value in inputs),
            {key: _kept(value, copies=copies) for key, value in options.items()},
            first.detach().clone() if copies else first.detach(),
            tuple(value.detach() for value in originals),
            tuple(value._version for value in originals),
        )
        watched.calls.append(call)
        if on_gradient is not None:
            first.register_hook(lambda gradient: on_gradient(call, gradient))
        return (first, *output[1:]) if isinstance(output, tuple) else first

    return hook


def _kept(value: Any, *, copies: bool) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.detach().clone() if copies else value.detach()


@contextlib.contextmanager
def recording(model: nn.Module, names: tuple[str, ...], found: dict[str, Tensor]) -> Iterator[None]:
    """Put what the named modules return into ``found`` while the block runs (the last call counts).

    A model that has layers of its own (``layer_outputs``) gives the outputs of its whole blocks.
    """
    watch = getattr(model, "layer_outputs", None)
    if watch is not None:
        with watch(names, found):
            yield
        return
    hooks = [model.get_submodule(name).register_forward_hook(_recorder(name, found)) for name in names]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _recorder(name: str, found: dict[str, Tensor]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
        found[name] = output.detach().clone()

    return hook
