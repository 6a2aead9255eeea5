"""Signals of every scan of a batch from one forward and at most one backward pass.

The backward pass of the summed loss gives the gradient g of every layer's output; what a layer read, a,
is known from the forward pass; and a scan's weight gradient is a contraction of its own rows of both
(Goodfellow 2015 for linear layers; Rochette et al. 2019 for convolutions). The pass goes no deeper than the
earliest tensor asked for, and a layer's gradients are reduced to what was asked the moment its g arrives.

A plan is traced once on two scans and checked against plain differentiation of each alone. Tensors of
layers without a kernel, and any that disagree, are computed the slower way and listed in ``fallbacks``.
"""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from privoxel.errors import ModelError
from privoxel.gradients.batching import peak_bytes
from privoxel.gradients.layers import gradients_of, squared_norms_of
from privoxel.gradients.planning import Plan, make_plan
from privoxel.gradients.projection import fold, signs
from privoxel.gradients.request import Loss, Request, Signals, squared_error
from privoxel.gradients.slower import loop_gradients, module_gradients
from privoxel.gradients.squares import squared_norms
from privoxel.gradients.watching import Call, recording, watching

CHECK_TOLERANCE = 2e-2  # in float32 a rounding that flips a max-pool already moves a gradient by 5e-3


@final
class Extractor:
    """One model and one request, ready for batch after batch and for other weights of the same model.

    ``fallbacks`` says, by tensor, why it is computed the slower way.
    """

    def __init__(
        self, model: nn.Module, request: Request, *, volumes: Tensor, ages: Tensor, loss: Loss = squared_error
    ) -> None:
        """Plan the work for ``request`` on ``model``.

        Args:
            model: in evaluation mode; its output has the scans first.
            request: what is wanted.
            volumes: an example batch, (scans, channels, x, y, z); two scans are used.
            ages: their ages in years (scans,), or all true values that the loss needs (scans, values).
            loss: of each scan, from what the model returns and the ages.

        Raises:
            ModelError: listing everything about model and request that cannot be used.
        """
        _check(model, request)
        self._model, self._request, self._loss = model, request, loss
        self._names = tuple(name for name, _ in model.named_parameters())
        self._signs: dict[str, Tensor] = {}
        volumes, ages = _two(volumes, ages)
        self._plan = make_plan(model, request.wanted(self._names), volumes)
        self._fall_back(self._disagreeing(volumes, ages))

    @property
    def fallbacks(self) -> dict[str, str]:
        """Tensors that are computed the slower way, and why."""
        return dict(self._plan.reasons)

    def bytes_per_scan(self, volumes: Tensor, ages: Tensor) -> int:
        """Return the bytes that a pass holds at its peak for each scan, measured on two."""
        volumes, ages = _two(volumes, ages)
        return peak_bytes(lambda: self(volumes, ages), volumes.device) // 2

    def __call__(
        self, volumes: Tensor, ages: Tensor, *, forward: Callable[[Tensor], Tensor] | None = None
    ) -> Signals:
        """Return what was asked of each scan of a batch.

        Args:
            volumes: (scans, channels, x, y, z).
            ages: (scans,) in years, or (scans, values).
            forward: what to call instead of the model, such as its later layers on stored maps.

        Raises:
            ModelError: if scans and ages do not match or the model was put in training mode.
        """
        if self._model.training or len(volumes) != len(ages):
            raise ModelError(
                f"Extractor: needs a model in evaluation mode and one age per scan, got training="
                f"{self._model.training}, {len(volumes)} scans and {len(ages)} ages. Correct the call."
            )
        if not len(volumes):
            return self._none(volumes, ages)
        return _Pass(self, volumes, ages).run(forward or self._model)

    def _none(self, volumes: Tensor, ages: Tensor) -> Signals:
        """Return the result for no scans: that of one, without it."""
        one = self(volumes.new_zeros(1, *volumes.shape[1:]), ages.new_zeros(1, *ages.shape[1:]))
        return Signals(*(_first(value, 0) for value in one))

    def _disagreeing(self, volumes: Tensor, ages: Tensor) -> dict[str, str]:
        """Return the tensors whose gradient is not that of each scan alone, with the reason."""
        names = tuple(n for n in self._request.wanted(self._names) if n not in self._plan.by_loop)
        if not names:
            return {}
        run = _Pass(self, volumes, ages)
        run.run(self._model)
        expected = loop_gradients(self._model, names, volumes, ages, self._loss)
        size = {n: expected[n].flatten(1).norm(dim=1) for n in names}
        limit = CHECK_TOLERANCE * torch.stack(list(size.values())).amax(0)
        found = {}
        for name in names:
            off = (run.squares[name].clamp_min(0).sqrt() - size[name]).abs() > limit
            if name in run.gradients:
                off |= (run.gradients[name] - expected[name]).flatten(1).norm(dim=1) > limit
            if off.any():
                found[name] = "its gradient disagreed with that of each scan alone"
        return found

    def _fall_back(self, reasons: dict[str, str]) -> None:
        self._plan = self._plan.with_loop(reasons)

    def sign(self, name: str, count: int) -> Tensor:
        """Return the signs that the projection gives a tensor, drawn once."""
        if name not in self._signs:
            self._signs[name] = signs(name, count, self._request.projection_seed)
        return self._signs[name]


@final
class _Pass:
    """One batch on its way through."""

    def __init__(self, extractor: Extractor, volumes: Tensor, ages: Tensor) -> None:
        self._of = extractor
        self._plan: Plan = extractor._plan
        self._request = extractor._request
        self._volumes, self._ages, self._scans = volumes, ages, len(volumes)
        self._whole = extractor._request.whole(extractor._names)
        self._partial: dict[str, tuple[Tensor | int, int]] = {}
        self._late: list[tuple[Call, Tensor]] = []
        self.gradients: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}
        self._projection: Tensor | None = None
        self._products = {name: volumes.new_zeros(self._scans) for name in self._request.directions}

    def run(self, forward: Callable[[Tensor], Tensor]) -> Signals:
        model, request, plan = self._of._model, self._request, self._plan
        activations: dict[str, Tensor] = {}
        on_gradient = self._arrived if plan.modules else None
        with (
            recording(model, request.activations, activations),
            watching(model, plan.modules, on_gradient, self._volumes.device) as watched,
        ):
            output = forward(self._volumes)
            losses = self._of._loss(output, self._ages)
            if on_gradient is not None and losses.requires_grad:
                torch.autograd.grad(losses.sum(), watched.seed, allow_unused=True)
        self._finish()
        prediction = output.detach()
        prediction = prediction.flatten() if prediction[0].numel() == 1 else prediction
        return Signals(
            prediction,
            losses.detach(),
            {name: self.gradients[name] for name in request.gradients},
            self._norms() if request.norms else None,
            activations,
            self._projection,
            self._products,
        )

    def _arrived(self, call: Call, outer: Tensor) -> None:
        """Reduce a layer's gradients to what was asked, as soon as the gradient of its output is known."""
        unit = self._plan.units[call.module]
        if not unit.is_known:
            self._late.append((call, outer.detach()))
            return
        layer = self._of._model.get_submodule(call.module)
        weight = next(layer.parameters())
        inputs = unit.rows.by_scan(call.tensors[0], self._scans).to(weight.dtype)
        outer = unit.rows.by_scan(outer.detach(), self._scans).to(weight.dtype)
        if unit.calls == 1 and not self._whole.intersection(unit.tensors.values()):
            found = squared_norms_of(layer, inputs, outer)
            self.squares |= {unit.tensors[n]: v for n, v in found.items() if n in unit.tensors}
            return
        self._add(unit.tensors, gradients_of(layer, inputs, outer), of=unit.calls)

    def _add(self, tensors: dict[str, str], found: dict[str, Tensor], *, of: int) -> None:
        """Add one call's gradients; reduce them when the last of a module's calls was seen."""
        for local, gradient in found.items():
            if local not in tensors:
                continue
            name = tensors[local]
            before, seen = self._partial.pop(name, (0, 0))
            if seen + 1 == of:
                self._reduce(name, before + gradient)
            else:
                self._partial[name] = (before + gradient, seen + 1)

    def _reduce(self, name: str, gradient: Tensor) -> None:
        """Keep of a tensor's gradients what was asked for."""
        request = self._request
        self.squares[name] = squared_norms(gradient)
        if name in request.gradients:
            self.gradients[name] = gradient
        if request.projection:
            folded = fold(gradient, self._of.sign(name, gradient[0].numel()), request.projection)
            self._projection = folded if self._projection is None else self._projection + folded
        for direction, towards in request.directions.items():
            if name in towards:
                product = gradient.flatten(1) @ towards[name].flatten().to(gradient)
                self._products[direction] = self._products[direction] + product

    def _finish(self) -> None:
        """Compute what needs the slower ways, and give zeros to tensors that nothing used."""
        model, plan = self._of._model, self._plan
        for call, outer in self._late:
            unit = plan.units[call.module]
            found = module_gradients(model.get_submodule(call.module), unit, call, outer, self._scans)
            self._add(unit.tensors, found, of=unit.calls)
        if plan.by_loop:
            for name, gradient in loop_gradients(
                model, plan.by_loop, self._volumes, self._ages, self._of._loss
            ).items():
                self._reduce(name, gradient)
        parameters = dict(model.named_parameters())
        for name in self._request.wanted(self._of._names):
            if name not in self.squares:
                self._reduce(name, parameters[name].detach().new_zeros(self._scans, *parameters[name].shape))

    def _norms(self) -> Tensor:
        return torch.stack([self.squares[name].clamp_min(0).sqrt() for name in self._of._names], dim=1)


def _first(value: Any, count: int) -> Any:
    """Return the first ``count`` scans of one field of ``Signals``."""
    if isinstance(value, dict):
        return {name: tensor[:count] for name, tensor in value.items()}
    return None if value is None else value[:count]


def _two(volumes: Tensor, ages: Tensor) -> tuple[Tensor, Tensor]:
    """Return two scans to plan on; the second is made by mirroring where only one is given."""
    if len(volumes) > 1:
        return volumes[:2], ages[:2]
    return torch.cat([volumes, volumes.flip(-1)]), torch.cat([ages, ages + 1])


def _check(model: nn.Module, request: Request) -> None:
    names = dict(model.named_parameters())
    modules = {*dict(model.named_modules()), *getattr(model, "layers", ())}
    towards = {name for direction in request.directions.values() for name in direction}
    unknown = [name for name in (*request.gradients, *sorted(towards)) if name not in names]
    missing = [name for name in request.activations if name not in modules]
    shapes = [
        f"{name} {tuple(tensor.shape)}"
        for direction in request.directions.values()
        for name, tensor in direction.items()
        if name in names and tensor.shape != names[name].shape
    ]
    checks = (
        (not model.training, "the model must be in evaluation mode, got training mode (call model.eval())"),
        (not unknown, f"names need tensors among {', '.join(names)}, got {', '.join(unknown)}"),
        (not missing, f"activations need modules of the model, got {', '.join(missing)}"),
        (not shapes, f"directions need the shapes of their tensors, got {', '.join(shapes)}"),
        (request.projection >= 0, f"projection needs at least 0 dimensions, got {request.projection}"),
    )
    faults = [message for holds, message in checks if not holds]
    if faults:
        raise ModelError(f"Extractor: {'; '.join(faults)}. Correct the request.")
