"""A cohort of simulated T1-like brains with known ageing: the data set that comes with privoxel.

Every voxel is a pure function of (configuration, participant, session): any scan alone, in any order and
process and on any number of threads, gives the same bytes. docs/simulator.md says what is modelled and what
is not; that its difficulty agrees with the paper's is by construction.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from privoxel.arrays import Float32Array
from privoxel.cohort import brain
from privoxel.cohort.anatomy import MAP_LATTICE, load_maps
from privoxel.cohort.base import Cohort, Grid
from privoxel.cohort.demographics import Demographics, Deviations, demographics, simulated_covariates
from privoxel.cohort.effects import Acquisition, Ageing, Individuality, SimulatorConfig, Site
from privoxel.errors import CohortError

__all__ = [
    "Acquisition",
    "Ageing",
    "Demographics",
    "Deviations",
    "Individuality",
    "SimulatedScans",
    "SimulatorConfig",
    "Site",
    "TissueMaps",
    "demographics",
    "simulate_cohort",
    "tissue_maps",
]

_VERSION = 1


class TissueMaps(NamedTuple):
    """The ground truth behind one scan: fractions of each voxel, float32, on the cohort's grid."""

    grey: Float32Array
    white: Float32Array
    fluid: Float32Array
    hippocampus: Float32Array
    ventricles: Float32Array
    lesions: Float32Array


@final
@dataclass(frozen=True)
class SimulatedScans:
    """Volumes by row, participant by participant, session by session. Small, hashable, picklable."""

    config: SimulatorConfig
    participants: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.participants) * self.config.sessions

    def who(self, row: int) -> tuple[Demographics, int]:
        """Return whose scan ``row`` is, and which session (from 1)."""
        if not 0 <= row < len(self):
            raise IndexError(f"SimulatedScans has rows 0 to {len(self) - 1}, got {row}.")
        position, session = divmod(row, self.config.sessions)
        return demographics(self.config, self.participants[position]), session + 1

    def intensity(self, row: int) -> Float32Array:
        """Return scan ``row`` as the scanner gave it: arbitrary positive units, 0 outside the brain."""
        return brain.image(self.config, *self.who(row))

    def volume(self, row: int) -> Float32Array:
        """Return scan ``row`` z-scored over all its voxels, background included, as the paper does."""
        intensity = self.intensity(row)
        # float64 sums: the SD of 900,000 float32 values would lose three digits
        mean, spread = intensity.mean(dtype=np.float64), intensity.std(dtype=np.float64)
        intensity -= np.float32(mean)
        intensity /= np.float32(spread)
        return intensity


def simulate_cohort(config: SimulatorConfig, subjects: int | Sequence[int]) -> Cohort:
    """Return participants 1 to ``subjects``, or exactly the numbered ones given, as a lazy cohort.

    Participant 7 is the same person in every cohort of the same seed, whoever else is in it and whatever the
    resolution.

    Args:
        config: what to simulate.
        subjects: how many participants, or their numbers (at least 1, distinct).

    Raises:
        CohortError: if there are none, or a number is below 1 or given twice.
    """
    numbers = _numbers(subjects)
    source = SimulatedScans(config, numbers)
    return Cohort(
        name="simulated",
        covariates=simulated_covariates(config, numbers),
        grid=Grid.mni(config.resolution_mm),
        source=source,
        fingerprint=_fingerprint(source),
        history=(f"simulated natively at {config.resolution_mm:g} mm", "z-score over all voxels"),
        is_simulated=True,
    )


def tissue_maps(config: SimulatorConfig, participant: int, session: int = 1) -> TissueMaps:
    """Return the tissue fractions that made one scan: pose included, noise and bias not."""
    who = demographics(config, participant)
    domain = brain.domain(config.resolution_mm)
    positions, patterns = brain.warped(config, who, session)
    shown = brain.tissue(config, who, positions, patterns)
    hippocampus, ventricles = MAP_LATTICE.sample(domain.landmarks, positions)
    maps = (shown.grey, shown.white, shown.fluid, hippocampus, ventricles, shown.lesions)
    return TissueMaps(*(domain.volume(values) for values in maps))


def _numbers(subjects: int | Sequence[int]) -> tuple[int, ...]:
    numbers = tuple(range(1, subjects + 1)) if isinstance(subjects, int) else tuple(int(n) for n in subjects)
    if not numbers:
        raise CohortError(f"A simulated cohort needs at least 1 participant, got {subjects!r}. Ask for more.")
    if min(numbers) < 1 or len(set(numbers)) != len(numbers):
        raise CohortError(
            "A simulated cohort needs distinct participant numbers of at least 1, got "
            f"{len(set(numbers))} distinct ones among {len(numbers)}, the lowest {min(numbers)}. "
            "Correct the list."
        )
    return numbers


def _fingerprint(source: SimulatedScans) -> str:
    parts = f"simulator {_VERSION}; {source!r}; template {load_maps().digest}"
    return f"simulated-{hashlib.sha256(parts.encode()).hexdigest()[:16]}"
