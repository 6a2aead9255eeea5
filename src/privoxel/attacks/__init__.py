"""Membership-inference attacks: pure functions from signal tables to one score per scan.

``ATTACKS`` and ``CONTROLS`` are the registry, by name; listing them imports neither torch nor scikit-learn.
A new attack is one module with a tuple ``ATTACKS`` and one line in ``_ATTACKS`` here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from privoxel.attacks import (
    alignment,
    attack_r,
    base_lr,
    centred,
    covariates,
    default,
    difficulty,
    distilled,
    forest,
    glir,
    influence,
    informia,
    inverse_hessian,
    lira,
    paper,
    population,
    projected,
    quantile,
    recentred,
    reference_tube,
    rmia,
    shadow_transfer,
    stability,
    stacked,
    stated,
    svm,
    threshold,
    trajectory,
    tube,
)
from privoxel.attacks.base import Attack
from privoxel.errors import ConfigError

_SHADOW: tuple[Attack, ...] = (
    *attack_r.ATTACKS,
    *difficulty.ATTACKS,
    *lira.ATTACKS,
    *rmia.ATTACKS,
    *informia.ATTACKS,
    *base_lr.ATTACKS,
    *reference_tube.ATTACKS,
    shadow_transfer.ShadowTransfer(paper.PREDICTION_LABEL),
    shadow_transfer.ShadowTransfer(paper.COMBINED),
    shadow_transfer.ShadowTransfer(stacked.STACKED),
    *(
        distilled.Distilled(attack)
        for attack in (*difficulty.ATTACKS, *attack_r.ATTACKS, lira.OFFLINE, rmia.RMIA)
    ),
    *(
        recentred.Recentred(attack, curve)
        for curve in (False, True)
        for attack in (rmia.RMIA, lira.OFFLINE, lira.ONLINE)
    ),
)
_ATTACKS: tuple[Attack, ...] = (
    *threshold.ATTACKS,
    *forest.ATTACKS,
    *paper.ATTACKS,
    *centred.ATTACKS,
    *tube.ATTACKS,
    *svm.ATTACKS,
    *population.ATTACKS,
    *quantile.ATTACKS,
    recentred.Recentred(quantile.QUANTILE),
    *stacked.ATTACKS,
    *influence.ATTACKS,
    *inverse_hessian.ATTACKS,
    *default.ATTACKS,
    *_SHADOW,
)
_CONTROLS: tuple[Attack, ...] = covariates.CONTROLS

_ON_COPIES: tuple[Attack, ...] = stability.ATTACKS
_ON_TRAINING: tuple[Attack, ...] = (*trajectory.ATTACKS, *alignment.ATTACKS, *glir.ATTACKS)

ATTACKS: Mapping[str, Attack] = MappingProxyType({attack.name: attack for attack in _ATTACKS})
"""Every attack that is ready to score, by name."""

ON_COPIES: Mapping[str, Attack] = MappingProxyType({attack.name: attack for attack in _ON_COPIES})
"""Attacks on augmented copies of scans: six more predictions a scan for each kind of copy."""

ON_TRAINING: Mapping[str, Attack] = MappingProxyType({attack.name: attack for attack in _ON_TRAINING})
"""Attacks on the course of training: predictions or gradients of everyone at every kept snapshot."""

WHEN_NAMED: Mapping[str, Attack] = MappingProxyType(
    {
        **ON_COPIES,
        **ON_TRAINING,
        **{attack.name: attack for attack in (*projected.ATTACKS, *informia.BY_NAME)},
    }
)
"""Attacks that ``all`` leaves out and a run takes where they are named: what they read costs much, or they
rank scans as another does."""

CENTRED: Mapping[str, Attack] = MappingProxyType(
    {
        name: form
        for name, form in recentred.centred_forms((*_ATTACKS, *_ON_TRAINING, *informia.BY_NAME)).items()
        if name not in ATTACKS
    }
)
"""Centred forms of attacks on predictions, of which ``all`` has a few: a run makes the others by name."""

WITH_STATED_SD: Mapping[str, Attack] = MappingProxyType({attack.name: attack for attack in stated.ATTACKS})
"""Attacks on models that state a standard deviation besides their prediction, as a table may hold it."""

CENTRED_WITH_STATED_SD: Mapping[str, Attack] = MappingProxyType(recentred.centred_forms(stated.ATTACKS))
"""Centred forms of those, which an audit runs by name."""

CENTRED_NAMES = "any attack on predictions alone is there as centred-NAME and tube-centred-NAME too"

CONTROLS: Mapping[str, Attack] = MappingProxyType({control.name: control for control in _CONTROLS})
"""Attacks that see no model: what they reach is a difference between people, not a leak."""

PAPER_TABLE_1: tuple[str, ...] = (
    "activation",
    "error-forest",
    "gradient-magnitude",
    "gradient-conv1",
    "gradient-output",
    "gradient-conv6",
    "prediction-label",
    "combined",
)
"""Rows of Table 1 of Gupta et al. 2021, in the paper's order."""


def get_attack(name: str) -> Attack:
    """Return the attack or control called ``name``.

    >>> get_attack("abs-error").title
    '|error| threshold'

    Raises:
        ConfigError: if there is none of that name.
    """
    listed = {**ATTACKS, **WHEN_NAMED, **WITH_STATED_SD, **CONTROLS}
    known = {**listed, **CENTRED, **CENTRED_WITH_STATED_SD}
    if name not in known:
        raise ConfigError(
            f"Attacks need a registered name, got {name!r}. Choose among {', '.join(sorted(listed))}; "
            f"{CENTRED_NAMES}."
        )
    return known[name]


def list_attacks(*, with_controls: bool = False) -> tuple[Attack, ...]:
    """Return all attacks in the order of the registry, and the controls after them if asked.

    >>> [attack.name for attack in list_attacks()][:2]
    ['abs-error', 'gradient-norm']
    """
    return (*ATTACKS.values(), *(CONTROLS.values() if with_controls else ()))
