"""Networks for audits by name, as ``privoxel audit privoxel.models.zoo:sfcn --weights FILE``.

Each is a factory: the released SFCN with its input and its bins, MONAI's networks with one output in years,
and the paper's networks as a run of privoxel trained them, built from the weights themselves.
"""

from privoxel.models.adapted import WhiteBox
from privoxel.models.monai_nets import densenet121, resnet10, resnet18, resnet50
from privoxel.models.own_nets import cnn3d, slice_mean, slice_mean_axial, slice_mean_coronal
from privoxel.models.sfcn import SFCN, UKB_BINS, prepare_ukb

__all__ = [
    "cnn3d",
    "densenet121",
    "resnet10",
    "resnet18",
    "resnet50",
    "sfcn",
    "slice_mean",
    "slice_mean_axial",
    "slice_mean_coronal",
]


def sfcn() -> WhiteBox:
    """Return SFCN as released for UK Biobank: bins of a year from 42 to 82 years, 1 mm voxels."""
    return WhiteBox(SFCN(), UKB_BINS, prepare=prepare_ukb)
