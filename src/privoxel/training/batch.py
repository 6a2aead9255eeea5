"""A batch as a model is shown it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import Tensor

from privoxel.cohort.base import ScanId


@final
@dataclass(frozen=True)
class Batch:
    """Scans of one update: ``volumes`` (scans, 1, x, y, z) and ``ages`` (scans,) in years on the device.

    ``moment`` names the update within its training, so that draws for it need no state.
    """

    moment: str
    scans: tuple[ScanId, ...]
    volumes: Tensor
    ages: Tensor


Change = Callable[[Batch], Batch]
"""What a defence makes of a batch: a pure function of it and of the streams it was made with."""
