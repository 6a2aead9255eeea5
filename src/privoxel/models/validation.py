"""What stops a brought model from being audited: every problem at once, each with what to do.

Signals are of one scan at a time, so a scan's output and gradient must depend on that scan alone, and must
be the same whenever it is asked for. Both are looked for in the network's modules, and then tried: the same
scans twice, and each alone beside all together.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from privoxel.errors import ModelError, Problem
from privoxel.models.adapted import AdaptedModel
from privoxel.models.several import stated_spread

BATCH_NORMS = nn.modules.batchnorm._BatchNorm
DROPOUTS = nn.modules.dropout._DropoutNd
RELATIVE = 1e-3
"""Largest difference, relative to the output's size, that rounding in single precision explains."""


def find_problems(model: AdaptedModel, volumes: Tensor, ages: Tensor) -> tuple[Problem, ...]:
    """Return everything that keeps ``model`` from being audited; nothing where it can be.

    Args:
        model: as it will be audited, that is, after ``eval()``.
        volumes: at least two different scans, (scans, 1, x, y, z).
        ages: their true values as the head's loss takes them: ages in years (scans,), or with further columns
            beside them.
    """
    found = [*_modes(model), *_weights(model, volumes)]
    if any(problem.where == "device" for problem in found):
        return tuple(found)
    try:
        with torch.no_grad():
            output = model(volumes)
    except ModelError as error:
        what, _, remedy = str(error).removesuffix(".").rpartition(". ")
        return (*found, Problem("output", what, remedy))
    except Exception as error:  # the user's own code may fail in any way
        return (*found, _failed("forward", error, volumes))
    return (*found, *_outputs(model, output, volumes), *_losses(model, output, volumes, ages))


def _modes(model: AdaptedModel) -> Iterator[Problem]:
    """Yield modules that behave as in training, or that always mix the scans of a batch."""
    training = [(name, module) for name, module in model.net.named_modules() if module.training]
    norms = [name for name, module in training if isinstance(module, BATCH_NORMS)]
    dropouts = [name for name, module in training if isinstance(module, DROPOUTS) and module.p > 0]
    if norms:
        yield Problem(
            "batch norm",
            f"{_few(norms)} in training mode: a scan's output depends on the others of its batch",
            "Call eval() on the network, and do not override train()",
        )
    if dropouts:
        yield Problem(
            "dropout",
            f"{_few(dropouts)} in training mode: answers are random",
            "Call eval() on the network, and do not override train()",
        )
    coupled = [
        name
        for name, module in model.net.named_modules()
        if isinstance(module, BATCH_NORMS) and not module.training and module.running_mean is None
    ]
    if coupled:
        yield Problem(
            "batch norm",
            f"{_few(coupled)} without running statistics: a scan's output depends on the others of its batch",
            "Use track_running_stats=True, or group or instance norm",
        )


def _weights(model: AdaptedModel, volumes: Tensor) -> Iterator[Problem]:
    tensors = dict((*model.net.named_parameters(), *model.net.named_buffers()))
    if not any(True for _ in model.net.parameters()):
        yield Problem(
            "weights", "the network has no parameters, so there are no gradients", "Audit it as a callable"
        )
    unmade = [name for name, tensor in tensors.items() if tensor.is_meta]
    elsewhere = [
        f"{name} on {tensor.device}"
        for name, tensor in tensors.items()
        if not tensor.is_meta and tensor.device != volumes.device
    ]
    if unmade:
        yield Problem("device", f"{_few(unmade)} on the meta device, without values", "Load the weights")
    if elsewhere:
        yield Problem(
            "device", f"{_few(elsewhere)}, scans on {volumes.device}", "Move the network there: .to()"
        )
    broken = [
        name
        for name, tensor in tensors.items()
        if not tensor.is_meta and tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
    if broken:
        yield Problem("weights", f"{_few(broken)} not finite", "Take another checkpoint")


def _outputs(model: AdaptedModel, output: Tensor, volumes: Tensor) -> Iterator[Problem]:
    if output.dim() == 0 or len(output) != len(volumes):
        yield Problem(
            "output shape",
            f"{tuple(output.shape)} for {len(volumes)} scans",
            "Return one row per scan, the scans first",
        )
        return
    rows = output.reshape(len(output), -1).float()
    if not bool(rows.isfinite().all()):
        yield Problem(
            "output",
            f"not finite for {int((~rows.isfinite().all(1)).sum())} of {len(rows)} scans",
            "Check the preparation of scans and the weights",
        )
        return
    try:
        with torch.no_grad():
            again = model(volumes).reshape(rows.shape)
            alone = torch.cat([model(volumes[k : k + 1]).reshape(1, -1) for k in range(len(volumes))])
    except Exception as error:  # the user's own code may fail in any way
        yield _failed("batch", error, volumes[:1])
        return
    limit = RELATIVE * max(float(rows.abs().max()), float(rows.std()), 1e-6)
    if float((rows - again).abs().max()) > limit:
        yield Problem(
            "repeatability",
            "the same scans give other outputs when asked again",
            "Switch randomness off in evaluation mode: functional dropout needs training=self.training",
        )
    elif alone.shape != rows.shape or float((rows - alone).abs().max()) > limit:
        yield Problem(
            "batch",
            "a scan gives another output alone than beside others",
            "Remove what mixes scans: batch statistics, normalisation over axis 0, attention across scans",
        )


def _losses(model: AdaptedModel, output: Tensor, volumes: Tensor, ages: Tensor) -> Iterator[Problem]:
    """Yield what is wrong with the head: its ages, its standard deviations, and its loss with a gradient."""
    if output.dim() == 0 or len(output) != len(volumes):
        return
    try:
        yield from _years("ages", model.head.ages(output), volumes)
        spread = stated_spread(model.head)
        if spread is not None:
            yield from _years("sds", spread(output), volumes)
    except ModelError as error:  # the head's own words say what the output should be
        what, _, remedy = str(error).removesuffix(".").rpartition(". ")
        yield Problem("output shape", what, remedy)
        return
    except Exception as error:  # the user's own code may fail in any way
        yield _failed("ages", error, volumes)
    if not callable(getattr(model.head, "losses", None)):
        yield Problem("loss", "the head has none", "Give the head a method losses(output, ages)")
        return
    yield from _loss_gradient(model, volumes, ages)


def _years(method: str, answer: Any, volumes: Tensor) -> Iterator[Problem]:
    """Yield what is wrong with what a head's method says of scans: one finite number each is wanted."""
    if not isinstance(answer, Tensor) or tuple(answer.shape) != (len(volumes),):
        yield Problem(
            method,
            f"{_described(answer)} for {len(volumes)} scans",
            f"Return one number of years per scan from {method}(), a tensor (scans,)",
        )
    elif not bool(answer.isfinite().all()):
        yield Problem(
            method,
            f"not finite for {int((~answer.isfinite()).sum())} of {len(volumes)} scans",
            f"Check {method}() of the head on what the network returns",
        )


def _loss_gradient(model: AdaptedModel, volumes: Tensor, ages: Tensor) -> Iterator[Problem]:
    before = {name: tensor.requires_grad for name, tensor in model.named_parameters()}
    losses: Any
    try:
        with torch.enable_grad():
            model.requires_grad_(True)
            losses = model.head.losses(model(volumes), ages)
    except ModelError as error:  # the head's own words say what a target should be
        what, _, remedy = str(error).removesuffix(".").rpartition(". ")
        yield Problem("loss", what, remedy)
        return
    except Exception as error:  # the user's own code may fail in any way
        yield _failed("loss", error, volumes)
        return
    finally:
        for name, tensor in model.named_parameters():
            tensor.requires_grad_(before[name])
    if not isinstance(losses, Tensor) or tuple(losses.shape) != (len(volumes),):
        yield Problem(
            "loss",
            f"{_described(losses)} for {len(volumes)} scans",
            "Return one loss per scan (reduction='none'), a tensor (scans,)",
        )
    elif not losses.requires_grad:
        yield Problem(
            "loss", "does not depend on the weights", "Remove no_grad() and detach() from forward and loss"
        )
    elif not bool(losses.isfinite().all()):
        yield Problem("loss", "not finite", "Check the loss at the ages of the cohort")


def _described(answer: Any) -> str:
    return str(tuple(answer.shape)) if isinstance(answer, Tensor) else f"{type(answer).__name__}"


def _failed(where: str, error: BaseException, volumes: Tensor) -> Problem:
    shape = "×".join(map(str, volumes.shape))
    said = str(error).splitlines()[0] if str(error) else ""
    return Problem(
        where,
        f"{type(error).__name__} on scans of shape {shape}: {said}",
        "Correct the network, its head or prepare=, or bring the cohort to the model's grid",
    )


def _few(names: Sequence[Any], most: int = 3) -> str:
    shown = ", ".join(str(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
