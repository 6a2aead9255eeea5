"""Membership-inference audits of deep regression models on 3D brain images.

cohort → split → train → snapshots → signals → attacks → evaluation → report. Names are imported when
first used, so that ``import privoxel`` needs neither torch nor scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from privoxel.version import __version__

if TYPE_CHECKING:
    from privoxel.attacks import ATTACKS, get_attack
    from privoxel.attacks.base import Attack, Knowledge, Scored, ThreatModel
    from privoxel.cohort.base import Cohort, Grid, ScanId
    from privoxel.cohort.bids import load_cohort
    from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort
    from privoxel.config import RunConfig, load_config
    from privoxel.errors import PrivoxelError
    from privoxel.evaluation.results import Results
    from privoxel.evaluation.scored import Estimate
    from privoxel.models import build_model
    from privoxel.recipes.audit import RunOptions, run_audit
    from privoxel.recipes.brought_settings import BroughtAudit
    from privoxel.recipes.doors import audit
    from privoxel.signals.table import Membership, SignalTable

_HOMES = {
    "ATTACKS": "attacks",
    "Attack": "attacks.base",
    "BroughtAudit": "recipes.brought_settings",
    "Cohort": "cohort.base",
    "Estimate": "evaluation.scored",
    "Grid": "cohort.base",
    "Knowledge": "attacks.base",
    "Membership": "signals.table",
    "PrivoxelError": "errors",
    "Results": "evaluation.results",
    "RunConfig": "config",
    "RunOptions": "recipes.audit",
    "ScanId": "cohort.base",
    "Scored": "attacks.base",
    "SignalTable": "signals.table",
    "SimulatorConfig": "cohort.simulated",
    "ThreatModel": "attacks.base",
    "audit": "recipes.doors",
    "build_model": "models",
    "get_attack": "attacks",
    "load_cohort": "cohort.bids",
    "load_config": "config",
    "run_audit": "recipes.audit",
    "simulate_cohort": "cohort.simulated",
}

__all__ = [
    "ATTACKS",
    "Attack",
    "BroughtAudit",
    "Cohort",
    "Estimate",
    "Grid",
    "Knowledge",
    "Membership",
    "PrivoxelError",
    "Results",
    "RunConfig",
    "RunOptions",
    "ScanId",
    "Scored",
    "SignalTable",
    "SimulatorConfig",
    "ThreatModel",
    "__version__",
    "audit",
    "build_model",
    "get_attack",
    "load_cohort",
    "load_config",
    "run_audit",
    "simulate_cohort",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'privoxel' has no attribute {name!r}")
    return getattr(import_module(f"privoxel.{_HOMES[name]}"), name)
