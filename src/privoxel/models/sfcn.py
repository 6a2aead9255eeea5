"""SFCN, the simple fully convolutional network of Peng et al. 2021: 2,952,936 parameters with 40 outputs.

============  ==========================================  ========  =============================
layer         operations                                  channels  map for 160 × 192 × 160 voxels
============  ==========================================  ========  =============================
conv_0        conv 3³, batch norm, max-pool 2, ReLU       1 → 32    80 × 96 × 80
conv_1        the same                                    → 64      40 × 48 × 40
conv_2        the same                                    → 128     20 × 24 × 20
conv_3        the same                                    → 256     10 × 12 × 10
conv_4        the same                                    → 256     5 × 6 × 5
conv_5        conv 1³, batch norm, ReLU                   → 64      5 × 6 × 5
conv_6        average pool, dropout, conv 1³              → 40      1 × 1 × 1
============  ==========================================  ========  =============================

Names of tensors are those of the released UK Biobank weights. Its input is the image in its own intensities,
divided by its mean, then cropped to the middle 160 × 192 × 160 voxels of the 1 mm MNI152 grid
(182 × 218 × 182); its outputs are log probabilities of one-year bins from 42 to 82 years.
"""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn
from torch.nn import functional

from privoxel.errors import ModelError
from privoxel.models.heads import SoftBins

CHANNELS = (32, 64, 128, 256, 256, 64)
INPUT = (160, 192, 160)
AVERAGED = (5, 6, 5)
UKB_BINS = SoftBins(42.0, 82.0, width=1.0, sigma=1.0)
"""The released model's bins: middles at 42.5, 43.5, ... 81.5 years."""


@final
class SFCN(nn.Module):
    """The network alone: prepared volumes in, log probabilities (scans, outputs) out.

    ``averaged`` is the map that the average pool takes in: of the published input unless another is given.
    """

    def __init__(
        self,
        channels: Sequence[int] = CHANNELS,
        outputs: int = 40,
        *,
        averaged: Sequence[int] = AVERAGED,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.feature_extractor = nn.Sequential()
        for number, (read, made) in enumerate(zip((1, *channels[:-1]), channels, strict=True)):
            self.feature_extractor.add_module(
                f"conv_{number}", _block(read, made, is_last=number == len(channels) - 1)
            )
        self.classifier = nn.Sequential()
        x, y, z = averaged
        self.classifier.add_module("average_pool", nn.AvgPool3d((x, y, z)))
        self.classifier.add_module("dropout", nn.Dropout(dropout))
        self.classifier.add_module(f"conv_{len(channels)}", nn.Conv3d(channels[-1], outputs, 1))

    def forward(self, volumes: Tensor) -> Tensor:
        """Return log probabilities (scans, outputs) of prepared volumes (scans, 1, x, y, z)."""
        values = self.classifier(self.feature_extractor(volumes))
        if values[0, 0].numel() != 1:
            raise ModelError(
                f"SFCN needs volumes that pool to one voxel, got {tuple(volumes.shape[2:])} and a map of "
                f"{tuple(values.shape[2:])}. Crop to {' × '.join(map(str, INPUT))} voxels of 1 mm."
            )
        return functional.log_softmax(values.flatten(1), dim=1)


def prepare_ukb(volumes: Tensor) -> Tensor:
    """Return volumes (scans, 1, x, y, z), each divided by its mean, cropped for the released model.

    Raises:
        ModelError: if the grid is smaller than the input, or a volume's mean is not above 0 (a z-score).
    """
    return crop_middle(divide_by_mean(volumes), INPUT)


def divide_by_mean(volumes: Tensor) -> Tensor:
    """Return each volume divided by the mean over its voxels.

    Raises:
        ModelError: if a mean is not clearly above 0.
    """
    means = volumes.mean((1, 2, 3, 4), keepdim=True)
    if bool((means <= 1e-3 * volumes.abs().amax((1, 2, 3, 4), keepdim=True)).any()):
        raise ModelError(
            "SFCN needs intensities whose mean is above 0, got volumes that look z-scored. Load the cohort "
            "with normalise='none'."
        )
    return volumes / means


def crop_middle(volumes: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the middle ``shape`` voxels of volumes (scans, 1, x, y, z); an odd voxel goes at the far end.

    >>> import torch
    >>> crop_middle(torch.zeros(1, 1, 182, 218, 182), (160, 192, 160)).shape
    torch.Size([1, 1, 160, 192, 160])

    Raises:
        ModelError: if the volumes are smaller.
    """
    sizes = volumes.shape[2:]
    if any(size < wanted for size, wanted in zip(sizes, shape, strict=True)):
        raise ModelError(
            f"Cropping needs at least {' × '.join(map(str, shape))} voxels, got "
            f"{' × '.join(map(str, sizes))}. "
            "Bring the cohort to the model's grid."
        )
    for axis, (size, wanted) in enumerate(zip(sizes, shape, strict=True)):
        volumes = volumes.narrow(2 + axis, (size - wanted) // 2, wanted)
    return volumes


def _block(read: int, made: int, *, is_last: bool) -> nn.Sequential:
    if is_last:
        return nn.Sequential(nn.Conv3d(read, made, 1), nn.BatchNorm3d(made), nn.ReLU())
    return nn.Sequential(
        nn.Conv3d(read, made, 3, padding=1), nn.BatchNorm3d(made), nn.MaxPool3d(2, stride=2), nn.ReLU()
    )
