"""Audit a network of your own white-box: its gradients and activations beside its predictions.

python examples/07_audit_network.py [FOLDER]

The network below stands for yours. Everything that privoxel must know of it is in ``MyNet`` and ``WhiteBox``:
what it is, and that it predicts ages in units of eight years about 62.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import privoxel
from privoxel import SimulatorConfig
from privoxel.models import Scalar, WhiteBox


class MyNet(nn.Module):
    """Three convolutions and a linear head, with batch norm and in-place ReLUs as is common."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for read, made in ((1, 8), (8, 16), (16, 32)):
            layers += [nn.Conv3d(read, made, 3, padding=1), nn.BatchNorm3d(made), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool3d(2)]
        self.features = nn.Sequential(*layers)
        self.age = nn.LazyLinear(1)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """Return standardised ages (scans, 1)."""
        return self.age(self.features(volumes).flatten(1))


def train(net: nn.Module, cohort: privoxel.Cohort, rows: np.ndarray, *, epochs: int = 12) -> None:
    """Fit ``net`` in place to the scans at ``rows``, as your own code did long ago."""
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(epochs):
        for batch in np.array_split(np.random.default_rng(0).permutation(rows), len(rows) // 8):
            ages = torch.as_tensor((cohort.covariates.age[batch] - 62.0) / 8.0, dtype=torch.float32)
            optimiser.zero_grad()
            (net(torch.from_numpy(cohort.batch(batch))).flatten() - ages).square().mean().backward()
            optimiser.step()


def main(folder: Path) -> None:
    """Print the verdict, the layers that were looked at, and where the report is."""
    torch.manual_seed(0)
    cohort = privoxel.simulate_cohort(SimulatorConfig(seed=1, resolution_mm=6.0), 160)
    people = cohort.covariates.participants
    net = MyNet()
    net(torch.from_numpy(cohort.batch([0, 1])))  # makes the lazy layer
    train(net, cohort, cohort.rows_of(people[:80]))

    box = WhiteBox(net, Scalar("mse", offset=62.0, scale=8.0))
    outcome = privoxel.audit(box, cohort, members=people[:80], output=folder / "audit")

    print(outcome.results.verdict.sentence)
    for role, layer in outcome.results.config["model"]["layers"].items():
        print(f"  {role:8} {layer}")
    print(f"Report: {outcome.report}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
