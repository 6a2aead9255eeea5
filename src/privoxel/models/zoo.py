"""Networks for audits by name, as ``privoxel audit privoxel.models.zoo:sfcn --weights FILE``.

Each is a factory without arguments: the released SFCN with its input and its bins, and MONAI's networks with
one output in years.
"""

from privoxel.models.adapted import WhiteBox
from privoxel.models.monai_nets import densenet121, resnet10, resnet18, resnet50
from privoxel.models.sfcn import SFCN, UKB_BINS, prepare_ukb

__all__ = ["densenet121", "resnet10", "resnet18", "resnet50", "sfcn"]


def sfcn() -> WhiteBox:
    """Return SFCN as released for UK Biobank: bins of a year from 42 to 82 years, 1 mm voxels."""
    return WhiteBox(SFCN(), UKB_BINS, prepare=prepare_ukb)
