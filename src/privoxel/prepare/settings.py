"""What a preparation depends on besides the scans, and the packages it needs."""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, final

from privoxel.cohort.base import Grid
from privoxel.cohort.derivative import SPACE
from privoxel.errors import ConfigError
from privoxel.version import __version__

PACKAGES = ("SimpleITK", "deepbet", "nilearn")
ROUTE = "deepbet, N4, rigid, affine; 1"
"""The steps; the number rises whenever the code changes a voxel."""


@final
@dataclass(frozen=True)
class PrepareSettings:
    """Edge of the output's voxels in mm, and the seed of everything drawn."""

    voxel_mm: float = 2.0
    seed: int = 0

    @property
    def grid(self) -> Grid:
        """Grid of the prepared volumes."""
        return Grid.mni(self.voxel_mm)

    def described(self) -> dict[str, Any]:
        """Return everything the voxels depend on besides the scan, as plain values.

        Raises:
            ConfigError: if a package of the extra is not installed.
        """
        return {
            "route": ROUTE,
            "space": SPACE,
            "voxel_mm": self.voxel_mm,
            "shape": list(self.grid.shape),
            "seed": self.seed,
            "privoxel": __version__,
        } | installed()


def installed() -> dict[str, str]:
    """Return the versions of the packages that prepare scans.

    Raises:
        ConfigError: if one is not installed.
    """
    found, absent = {}, []
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            absent.append(name)
    if absent:
        raise ConfigError(
            f"Preparing scans needs {', '.join(PACKAGES)}, got no {' and no '.join(absent)}. "
            "Install the extra: pip install 'privoxel[preproc]'."
        )
    return found


def digest(described: dict[str, Any]) -> str:
    """Return a short name of settings."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
