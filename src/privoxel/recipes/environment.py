"""What made a result: versions of the packages it depends on, and the kind of machine."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from privoxel.executor import usable_cores
from privoxel.version import __version__

PACKAGES = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "nibabel", "nilearn", "matplotlib")


def version_facts() -> dict[str, str]:
    """Return the versions of privoxel, Python and the packages that decide numbers."""
    found = {"privoxel": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine_facts() -> dict[str, Any]:
    """Return the processor's architecture, the number of usable cores and the system's name."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": usable_cores(),
    }
