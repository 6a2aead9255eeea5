"""Audit a network that you have as a file: simulated brains, and a network that learnt half of them by heart.

python examples/05_audit_a_model_of_scans.py [FOLDER]

The network is exported to ``.pt2``; for ONNX or TorchScript only ``save`` differs. The same from the shell:
privoxel audit FOLDER/brain_age.pt2 --cohort BIDS --members members.txt
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

import privoxel


def train(scans: torch.Tensor, ages: torch.Tensor, *, epochs: int = 150) -> nn.Module:
    """Return a network that was trained on few people for far too long."""
    net = nn.Sequential(
        nn.AvgPool3d(2), nn.Conv3d(1, 8, 3, stride=2), nn.ReLU(), nn.Conv3d(8, 16, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.LazyLinear(32), nn.ReLU(), nn.Linear(32, 1),
    )  # fmt: skip
    net(scans[:1])
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(epochs):
        optimiser.zero_grad()
        loss = nn.functional.mse_loss(net(scans).squeeze(1), (ages - 62.0) / 10.0)
        loss.backward()
        optimiser.step()
    return nn.Sequential(net.eval(), InYears())


class InYears(nn.Module):
    """Turns what the network learnt into years."""

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Return years."""
        return 62.0 + 10.0 * value


def save(net: nn.Module, scans: torch.Tensor, path: Path) -> None:
    """Export the network; it takes any number of scans at once."""
    shapes = ({0: torch.export.Dim("scans")},)
    program = torch.export.export(nn.Sequential(*net).eval(), (scans[:2],), dynamic_shapes=shapes)
    torch.export.save(program, path)


def main(folder: Path) -> None:
    """Print the verdict and where the report is."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    cohort = privoxel.simulate_cohort(privoxel.SimulatorConfig(seed=0, resolution_mm=6), 120)
    people = cohort.covariates.participants
    members = people[::2]
    rows = cohort.rows_of(members)
    scans, ages = torch.from_numpy(cohort.batch(rows)), torch.from_numpy(cohort.covariates.age[rows]).float()
    save(train(scans, ages), scans, folder / "brain_age.pt2")
    outcome = privoxel.audit(
        folder / "brain_age.pt2", cohort, members=members, output=folder / "audit", stability=True
    )
    print(outcome.results.verdict.sentence)
    for attack in outcome.results.targets[0].attacks:
        auc = attack.metrics["auc"]
        print(f"  {attack.title:32} AUC {auc.value:.2f} ({auc.low:.2f}-{auc.high:.2f})")
    print(f"Report: {outcome.report}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
