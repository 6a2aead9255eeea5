"""Which rows of a layer's tensors belong to which scan.

A layer may see a scan in several rows of its batch axis (slices folded into the batch), in either order,
and the batch axis need not come first (attention). Both are found by comparing what the layer saw of two
scans with what it saw of the first alone.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

TOLERANCE = 1e-3


@final
@dataclass(frozen=True)
class Rows:
    """The batch axis of a tensor, and whether a scan's rows lie together on it (or every n-th is its)."""

    axis: int
    together: bool

    def by_scan(self, tensor: Tensor, scans: int) -> Tensor:
        """Return ``tensor`` as (scans, rows of a scan, *the other axes)."""
        tensor = tensor.movedim(self.axis, 0)
        if self.together:
            return torch.unflatten(tensor, 0, (scans, -1))
        return torch.unflatten(tensor, 0, (-1, scans)).transpose(0, 1)

    def of_scan(self, tensor: Tensor, scan: int, scans: int) -> Tensor:
        """Return the rows of one scan, in the tensor's own order of axes."""
        return self.by_scan(tensor, scans)[scan].movedim(0, self.axis)


def find_rows(of_two: Tensor, of_first: Tensor) -> Rows | None:
    """Return where the first scan's tensor lies in that of two scans; None if it is not found."""
    if of_two.dim() != of_first.dim():
        return None
    grown = [k for k, (n, m) in enumerate(zip(of_two.shape, of_first.shape, strict=True)) if n != m]
    if len(grown) != 1 or of_two.shape[grown[0]] != 2 * of_first.shape[grown[0]]:
        return None
    for rows in (Rows(grown[0], together=True), Rows(grown[0], together=False)):
        difference = (rows.of_scan(of_two, 0, 2) - of_first).abs().max()
        if difference <= TOLERANCE * of_first.abs().max().clamp_min(torch.finfo(of_first.dtype).tiny):
            return rows
    return None
