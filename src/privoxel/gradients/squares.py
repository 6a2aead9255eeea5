"""Squared L2 norms of gradients, scan by scan."""

from collections.abc import Mapping

import torch
from torch import Tensor


def squared_norms(gradient: Tensor) -> Tensor:
    """Return ‖gradient‖² (scans,) of gradients (scans, *shape), in whatever layout, without a copy."""
    if gradient.dim() == 1:
        return gradient.square()
    return torch.linalg.vector_norm(gradient, dim=tuple(range(1, gradient.dim()))).square()


def squared_norms_by_name(gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``squared_norms`` of several tensors."""
    return {name: squared_norms(gradient) for name, gradient in gradients.items()}
