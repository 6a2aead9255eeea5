"""Random projections of whole gradients to a few dimensions, tensor by tensor.

Every number of the gradient gets a random sign and is added to one of k sums (a count sketch: Charikar,
Chen & Farach-Colton 2002); the sums stride over the tensor, the signs are drawn per tensor from its name
and a seed. Inner products are preserved on average over seeds, as with TRAK's dense signs (Park et al.
2023), at the cost of reading the gradient once.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from privoxel.seeding import Streams


def signs(name: str, count: int, seed: int) -> Tensor:
    """Return ``count`` random signs (int8) for the tensor called ``name``."""
    generator = Streams(seed).generator(f"projection/{name}")
    return torch.from_numpy(generator.integers(0, 2, count, dtype="int8") * 2 - 1)


def fold(gradient: Tensor, sign: Tensor, size: int) -> Tensor:
    """Return the signed sums (scans, size) of gradients (scans, *shape)."""
    flat = gradient.flatten(1) * sign.to(gradient)
    missing = -flat.shape[1] % size
    flat = torch.nn.functional.pad(flat, (0, missing))
    return torch.unflatten(flat, 1, (-1, size)).sum(1)


def project(gradients: Mapping[str, Tensor], size: int, seed: int) -> Tensor:
    """Return the projection (scans, size) of gradients given by tensor name, (scans, *shape) each."""
    return torch.stack(
        [fold(g, signs(name, g[0].numel(), seed).to(g.device), size) for name, g in gradients.items()]
    ).sum(0)
