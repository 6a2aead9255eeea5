"""What the paper's attack networks look like, as plain values (Gupta et al. 2021, appendix C).

The numbers live here, without torch; ``encoders`` builds and trains the networks.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, final

from privoxel.arrays import Float32Array

EMBEDDING = 64
PAPER_STEPS = 3800
"""Steps of the paper's 100 epochs: 2,400 training scans (of 3,000 leaked) in batches of 64."""
PATIENT_STEPS = 240
"""Steps without progress endured at least; the paper's 760 found nothing more (see docs/attacks.md)."""


class Encoder(StrEnum):
    """Kind of encoder, by the form of its input: features, an image, or channels of a sequence."""

    FLAT = "flat"
    IMAGE = "image"
    SEQUENCE = "sequence"
    PADDED_SEQUENCE = "padded-sequence"


class Block(NamedTuple):
    """Convolution → max-pool → ReLU, in the order the paper prints."""

    channels: int
    kernel: tuple[int, ...]
    pool: tuple[int, ...]
    padding: int = 0


BLOCKS = {
    Encoder.IMAGE: (Block(64, (5, 5), (4, 2)), Block(64, (4, 2), (4, 2)), Block(16, (4, 3), (2, 2))),
    Encoder.SEQUENCE: (Block(128, (5,), (4,)), Block(128, (4,), (2,)), Block(128, (3,), (2,))),
    Encoder.PADDED_SEQUENCE: (Block(64, (3,), (2,), 1),) * 3,
}
PAPER_SHAPES = {
    Encoder.IMAGE: (1, 256, 64),
    Encoder.SEQUENCE: (64, 256),
    Encoder.PADDED_SEQUENCE: (64, 32),
}


class Branch(NamedTuple):
    """One feature of the leaked and of the target scans: scans × features, or × channels × lengths."""

    encoder: Encoder
    leaked: Float32Array
    target: Float32Array

    @property
    def is_adapted(self) -> bool:
        """Whether a convolutional encoder works on a map of another size than the paper's."""
        return self.encoder is not Encoder.FLAT and self.leaked.shape[1:] != PAPER_SHAPES[self.encoder]


@final
@dataclass(frozen=True)
class Schedule:
    """How an attack network is trained: the paper's appendix C.2, and a dropout rate of ours.

    A smaller leaked set than the paper's has fewer steps an epoch, so both limits are stretched until they
    are ``steps`` and ``patient_steps`` too.
    """

    epochs: int = 100
    steps: int = PAPER_STEPS
    patience: int = 20
    patient_steps: int = PATIENT_STEPS
    batch: int = 64
    learning_rate: float = 1e-3
    dropout: float = 0.5

    def limits(self, scans: int) -> tuple[int, int]:
        """Return the most epochs over ``scans`` training scans, and those without progress that end it."""
        steps_an_epoch = math.ceil(scans / self.batch)
        epochs = max(self.epochs, math.ceil(self.steps / steps_an_epoch))
        return epochs, max(self.patience, math.ceil(self.patient_steps / steps_an_epoch))
