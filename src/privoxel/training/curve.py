"""The learning curve: one point an epoch."""

from typing import NamedTuple


class Epoch(NamedTuple):
    """Mean absolute errors (years) after one epoch, the training one as seen during it (dropout on)."""

    epoch: int
    train_mae: float
    validation_mae: float | None
