"""Small networks such as users bring: in-place, normalised by batch, of several heads."""

import torch
from torch import Tensor, nn

from privoxel.models.adapted import WhiteBox
from privoxel.models.heads import Scalar, SoftBins
from privoxel.models.several import Several

GRID = (8, 10, 9)


class InPlace(nn.Module):
    """What MONAI's networks do: in-place ReLUs behind layers, and residuals added in place."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm3d(4)
        self.body = nn.Conv3d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, outputs)

    def forward(self, volumes: Tensor) -> Tensor:
        maps = self.relu(self.norm(self.stem(volumes)))
        out = self.body(maps)
        out += maps
        return self.head(self.drop(self.pool(self.relu(out)).flatten(1)))


def in_place(outputs: int = 1, *, seed: int = 3) -> InPlace:
    """Return such a network with batch statistics that are not those of the start."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = InPlace(outputs)
        net.norm.running_mean.normal_()
        net.norm.running_var.uniform_(0.5, 2.0)
    return net.eval()


def factory() -> nn.Module:
    """Return the network as it is."""
    return in_place()


def binned() -> WhiteBox:
    """Return a network whose outputs are age bins, and how it is used."""
    return WhiteBox(in_place(10), SoftBins(40.0, 90.0, width=5.0))


def of_three() -> nn.Module:
    """Return a network of three outputs."""
    return in_place(3)


def not_a_network() -> str:
    """Return something else."""
    return "network"


def boom() -> nn.Module:
    """Fail, as factories do."""
    return {}["weights"]


def boxed_name() -> WhiteBox:
    """Put something into the box that is no network."""
    return WhiteBox("network")


def needs_arguments(depth: int) -> nn.Module:
    """Return a network that cannot be made without being told its depth."""
    return nn.Linear(depth, 1)


def several() -> WhiteBox:
    """Return a network of age and another target, and the loss it was trained with."""
    heads = Several(Scalar("l1", offset=60, scale=9), {"tiv": Scalar(offset=1.5, scale=0.2)}, {"tiv": 0.5})
    return WhiteBox(in_place(2), heads)


def placed() -> WhiteBox:
    """Return a network of three values, of which the second is another target."""
    return WhiteBox(in_place(3), Several(Scalar(target=0), {"tiv": Scalar(target=1)}))
