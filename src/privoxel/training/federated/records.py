"""Weights on the wire: a model's learnable tensors as Flower's array record, and back.

Buffers stay where they are: those of the scaled head are constants that every learner builds for itself,
and a mean (or a defence's noise) would only disturb them.
"""

from collections.abc import Mapping

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import nn

from privoxel.arrays import Float32Array
from privoxel.errors import ModelError

Weights = dict[str, Float32Array]


def refuse_running_statistics(model: nn.Module) -> None:
    """Raise ``ModelError`` if ``model`` learns through buffers, which a federation does not exchange."""
    running = [name for name, _ in model.named_buffers() if "running_" in name]
    if running:
        raise ModelError(
            f"A federation needs a model without running statistics, got {', '.join(running[:3])}. "
            "Use instance or group normalisation."
        )


def weights_of(model: nn.Module) -> Weights:
    """Return copies of the learnable tensors of ``model`` by name."""
    return {name: value.detach().cpu().float().numpy().copy() for name, value in model.named_parameters()}


def load_into(model: nn.Module, weights: Mapping[str, Float32Array]) -> nn.Module:
    """Write ``weights`` into ``model`` in place, keeping its memory format, and return it."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(weights[name])))
    return model


def to_record(weights: Mapping[str, Float32Array]) -> ArrayRecord:
    """Return ``weights`` as an array record, in single precision."""
    return ArrayRecord({name: Array(np.asarray(value, dtype=np.float32)) for name, value in weights.items()})


def from_record(record: ArrayRecord) -> Weights:
    """Return the weights that an array record holds, in single precision."""
    return {name: array.numpy().astype(np.float32, copy=False) for name, array in record.items()}
