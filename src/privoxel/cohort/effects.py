"""What the simulator lets age, individuality and scanners do: every constant, in one frozen configuration.

Effect sizes are those of a brain of 60 years unless a name says otherwise; docs/simulator.md gives the
literature they follow.
"""

import math
from dataclasses import dataclass, fields
from typing import final

from privoxel.errors import ConfigError


@final
@dataclass(frozen=True)
class Ageing:
    """How tissue follows brain age; ``*_spread`` is the SD of a participant's own deviation.

    ``ventricles_*``: log volume against the template at 60 years, its yearly growth and the growth's yearly
    increase. ``sulci_*``: log odds of fluid against cortex at 60 years and per year. ``hippocampi_*``: yearly
    log volume before 60 and after. ``white_matter_*``: log odds of white matter against its neighbours, per
    year and per year². ``lesions_*``: log load at 60 and per year. ``contrast_*``: yearly drift of the
    grey- and white-matter signals, as a share of a full signal.
    """

    ventricles_at_60: float = 0.2
    ventricles_per_year: float = 0.030
    ventricles_per_year2: float = 0.0003
    ventricles_spread: float = 0.15
    sulci_at_60: float = 0.0
    sulci_per_year: float = 0.055
    sulci_spread: float = 0.2
    hippocampi_before_60: float = -0.003
    hippocampi_after_60: float = -0.010
    hippocampi_spread: float = 0.06
    white_matter_per_year: float = -0.004
    white_matter_per_year2: float = -0.0003
    white_matter_spread: float = 0.06
    lesions_at_60: float = -1.4
    lesions_per_year: float = 0.055
    lesions_spread: float = 0.5
    contrast_grey_per_year: float = 0.0005
    contrast_white_per_year: float = -0.0005
    contrast_spread: float = 0.006


@final
@dataclass(frozen=True)
class Individuality:
    """What makes two participants of one age differ: smooth fields on four scales (SDs, coarse to fine).

    The knots of the fields are 64, 32, 16 and 8 mm apart. ``deformation_mm`` moves all anatomy (per axis);
    ``sulcal_pattern`` opens and closes sulci (log odds of fluid); ``lesion_pattern`` places lesions.
    ``scale`` is the SD of the residual head scale left by a 9-parameter registration. ``strength`` multiplies
    deformations and patterns: 0 gives everyone the template's shape.
    """

    deformation_mm: tuple[float, float, float, float] = (1.3, 1.5, 1.5, 0.9)
    sulcal_pattern: tuple[float, float, float, float] = (0.0, 0.2, 0.45, 0.7)
    lesion_pattern: tuple[float, float, float, float] = (0.0, 0.0, 0.65, 0.75)
    scale: float = 0.012
    strength: float = 1.0


@final
@dataclass(frozen=True)
class Acquisition:
    """What differs between two scans of one participant, and the noise.

    ``rotation_deg`` and ``shift_mm`` are the SDs of pose left by registration, per axis; ``bias`` the SD of
    the log bias field; ``signal_jitter`` that of each tissue's signal. ``noise`` is the SD of each of the two
    Rician channels at 2 mm, as a share of a full signal; at r mm it is ``noise × (2/r)^0.75``.
    """

    rotation_deg: float = 0.6
    shift_mm: float = 0.5
    bias: float = 0.05
    signal_jitter: float = 0.008
    noise: float = 0.020


@final
@dataclass(frozen=True)
class Site:
    """One scanner: its share of the cohort, tissue signals, and factors on noise and bias.

    ``shading`` is the log signal gained per 60 mm upwards; ``stretch`` the relative enlargement at 80 mm from
    the centre that gradient non-linearity leaves.
    """

    label: str
    weight: float
    grey: float = 0.66
    white: float = 0.88
    fluid: float = 0.22
    noise: float = 1.0
    shading: float = 0.0
    stretch: float = 0.0


SITES = (
    Site("A", 0.60),
    Site("B", 0.25, grey=0.63, white=0.90, fluid=0.18, noise=1.3, shading=0.03, stretch=0.004),
    Site("C", 0.15, grey=0.68, white=0.87, fluid=0.26, noise=1.6, shading=0.05, stretch=-0.004),
)


@final
@dataclass(frozen=True)
class SimulatorConfig:
    """A simulated cohort but for its size: every voxel follows from this, a participant and a session.

    ``seed`` is any non-negative integer; ``resolution_mm`` the voxel edge (1 to 10; 2, 3, 4 and 6 have the
    grids of ``Grid.mni``); ``sessions`` the scans of each participant; ``brain_age_sd`` the SD in years of
    brain age around age, which sets the error no model can beat.

    >>> SimulatorConfig(seed=7).resolution_mm
    4.0

    Raises:
        ConfigError: with all faults at once.
    """

    seed: int
    resolution_mm: float = 4.0
    sessions: int = 1
    brain_age_sd: float = 2.5
    sites: tuple[Site, ...] = SITES
    ageing: Ageing = Ageing()
    individuality: Individuality = Individuality()
    acquisition: Acquisition = Acquisition()

    def __post_init__(self) -> None:
        faults = [*self._faults(), *_negative_spreads(self.ageing)]
        if faults:
            raise ConfigError("SimulatorConfig " + "; ".join(faults) + ". Correct these fields.")

    def _faults(self) -> list[str]:
        checks = {
            f"needs a seed of at least 0, got {self.seed}": self.seed >= 0,
            f"needs a resolution_mm of 1 to 10, got {self.resolution_mm}": 1 <= self.resolution_mm <= 10,
            f"needs at least 1 session, got {self.sessions}": self.sessions >= 1,
            f"needs a brain_age_sd of at least 0 years, got {self.brain_age_sd}": _is_size(self.brain_age_sd),
            f"needs site weights that are positive, got {[s.weight for s in self.sites]}": bool(self.sites)
            and all(s.weight > 0 for s in self.sites),
            f"needs distinct site labels, got {[s.label for s in self.sites]}": len(self.sites)
            == len({s.label for s in self.sites}),
            f"needs a strength of 0 to 1.5, got {self.individuality.strength}": 0
            <= self.individuality.strength
            <= 1.5,
            f"needs a noise of at least 0, got {self.acquisition.noise}": _is_size(self.acquisition.noise),
        }
        return [text for text, is_met in checks.items() if not is_met]


def _is_size(value: float) -> bool:
    return math.isfinite(value) and value >= 0


def _negative_spreads(ageing: Ageing) -> list[str]:
    spreads = [(f.name, getattr(ageing, f.name)) for f in fields(ageing) if f.name.endswith("_spread")]
    return [f"needs {name} of at least 0, got {sd}" for name, sd in spreads if not _is_size(sd)]
