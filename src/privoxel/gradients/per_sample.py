"""Gradients of each scan's own loss, for many scans at once.

The loss of a scan is its squared error (prediction - age)² in years², the training loss of Gupta et al.
2021; its gradient is taken in evaluation mode with respect to every parameter tensor, or to some. A
layer that no asked-for tensor lies below is never differentiated.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from privoxel.errors import ModelError


class PerSample(NamedTuple):
    """Predictions and gradients of a batch of scans.

    ``prediction`` (scans,) in years; ``gradients`` by tensor name (scans, *shape of the tensor) in years²
    per unit of the weight; ``norms`` (scans, tensors) in the order of ``named_parameters``, None if unasked.
    """

    prediction: Tensor
    gradients: dict[str, Tensor]
    norms: Tensor | None


def per_sample_gradients(
    model: nn.Module,
    volumes: Tensor,
    ages: Tensor,
    *,
    names: Sequence[str] = (),
    norms: bool = True,
    chunk_size: int = 8,
) -> PerSample:
    """Return each scan's gradient of its squared error, and the norm of it per parameter tensor.

    Args:
        model: maps (scans, 1, x, y, z) to ages (scans,), in evaluation mode.
        volumes: (scans, 1, x, y, z).
        ages: (scans,) in years.
        names: parameter tensors whose whole gradients are returned, such as ``conv6.weight``.
        norms: whether to return the L2 norm of the gradient of every tensor (differentiates all of them).
        chunk_size: scans whose gradients are held at once.

    Raises:
        ModelError: if the model is in training mode (dropout would differ from scan to scan), has no such
            tensor, or scans and ages do not match.
    """
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    _check(model, volumes, ages, names=names, known=parameters, chunk_size=chunk_size)
    if not len(volumes):
        return _empty(parameters, volumes, names, norms=norms)
    wanted = set(parameters) if norms else set(names)
    chunks = [
        _chunk(model, parameters, wanted, batch, names=names, norms=norms)
        for batch in zip(torch.split(volumes, chunk_size), torch.split(ages, chunk_size), strict=True)
    ]
    return PerSample(
        torch.cat([chunk.prediction for chunk in chunks]),
        {name: torch.cat([chunk.gradients[name] for chunk in chunks]) for name in names},
        torch.cat([chunk.norms for chunk in chunks if chunk.norms is not None]) if norms else None,
    )


def _chunk(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    wanted: set[str],
    batch: tuple[Tensor, Tensor],
    *,
    names: Sequence[str],
    norms: bool,
) -> PerSample:
    """Return predictions, gradients and norms of a few scans; other gradients are dropped on return."""
    differentiated = {name: tensor for name, tensor in parameters.items() if name in wanted}
    fixed = {name: tensor for name, tensor in parameters.items() if name not in wanted}
    gradients, prediction = _gradients(model, differentiated, fixed, *batch)
    # A fresh copy: a kept slice of the chunk must not keep the rest of it alive.
    kept = {name: gradients[name].contiguous() for name in names}
    return PerSample(prediction.detach(), kept, _norms(gradients, parameters) if norms else None)


def _gradients(
    model: nn.Module,
    differentiated: dict[str, Tensor],
    fixed: dict[str, Tensor],
    volumes: Tensor,
    ages: Tensor,
) -> tuple[dict[str, Tensor], Tensor]:
    """Return per-scan gradients by tensor and the predictions; this is what a faster kernel replaces."""
    if not differentiated:
        with torch.no_grad():
            return {}, model(volumes)

    def squared_error(weights: dict[str, Tensor], volume: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        prediction = functional_call(model, {**fixed, **weights}, (volume[None],)).squeeze(0)
        return (prediction - age).square(), prediction

    of_scans = vmap(grad(squared_error, has_aux=True), in_dims=(None, 0, 0))
    gradients, prediction = of_scans(differentiated, volumes, ages.to(volumes))
    return gradients, prediction


def _norms(gradients: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([torch.linalg.vector_norm(gradients[n].flatten(1), dim=1) for n in parameters], dim=1)


def _empty(
    parameters: Mapping[str, Tensor], volumes: Tensor, names: Sequence[str], *, norms: bool
) -> PerSample:
    """Return the result for no scans."""
    return PerSample(
        volumes.new_empty(0),
        {name: volumes.new_empty(0, *parameters[name].shape) for name in names},
        volumes.new_empty(0, len(parameters)) if norms else None,
    )


def _check(
    model: nn.Module,
    volumes: Tensor,
    ages: Tensor,
    *,
    names: Sequence[str],
    known: Mapping[str, Tensor],
    chunk_size: int,
) -> None:
    unknown = [name for name in names if name not in known]
    checks = (
        (not model.training, "the model must be in evaluation mode, got training mode (call model.eval())"),
        (not unknown, f"names need tensors among {', '.join(known)}, got {', '.join(unknown)}"),
        (volumes.dim() == 5, f"volumes need shape (scans, 1, x, y, z), got {tuple(volumes.shape)}"),
        (
            ages.dim() == 1 and len(ages) == len(volumes),
            f"ages need one value per scan ({len(volumes)}), got shape {tuple(ages.shape)}",
        ),
        (chunk_size >= 1, f"chunk_size needs at least 1 scan, got {chunk_size}"),
    )
    faults = [message for holds, message in checks if not holds]
    if faults:
        raise ModelError(f"Per-sample gradients: {'; '.join(faults)}. Correct the call.")
