"""Federated training on Flower: what a learner does, what the server does, and the engines between them.

``run.run_federation`` trains over an in-process grid or over Flower's Ray simulation; ``client`` and
``server`` hold the two halves that a deployment starts in processes of their own. The only package that
may import flwr, whose telemetry is off before it is imported; this module does not.
"""

import importlib.util
import os

from privoxel.errors import FederationError

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] = "1"  # it would fetch another build of torch
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # or Ray warns that it will one day


def require_flower() -> None:
    """Raise ``FederationError`` with the remedy if Flower is not installed."""
    if importlib.util.find_spec("flwr") is None:
        raise FederationError(
            "A federation needs Flower, got no flwr. Install privoxel[fl] or privoxel[fl-sim]."
        )
