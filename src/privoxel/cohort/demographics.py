"""Who is simulated: age, sex, site and an individual brain age, each a pure function of (seed, participant).

Ages follow a fixed histogram with the mean (62.6 years), SD (7.4) and range (45-80) of the reference cohort
and, unlike a normal cut to that range, its mean absolute deviation from the mean (6.25 years): the error of a
model that knows nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, final

import numpy as np

from privoxel.cohort.base import Covariates, ScanId
from privoxel.cohort.effects import SimulatorConfig

_BIN_EDGES = np.arange(45.0, 80.1, 2.5)
_BIN_WEIGHTS = np.array([2, 33, 62, 85, 99, 105, 108, 107, 107, 102, 88, 65, 35, 2]) / 1000
_CUMULATIVE = np.concatenate([[0.0], np.cumsum(_BIN_WEIGHTS)])


class Stream(IntEnum):
    """What a random stream is for; a new use takes a new number, so that no existing voxel changes."""

    DEMOGRAPHICS = 1
    SHAPE = 2
    ACQUISITION = 3
    NOISE = 4


class Deviations(NamedTuple):
    """A participant's own deviations from the ageing curves, in SDs."""

    ventricles: float
    sulci: float
    hippocampi: float
    white_matter: float
    lesions: float
    contrast: float


@final
@dataclass(frozen=True)
class Demographics:
    """The ground truth of one participant; ``age`` and ``brain_age_gap`` (brain age − age) in years."""

    participant: int
    age: float
    sex: str
    site: str
    brain_age_gap: float
    deviations: Deviations

    @property
    def brain_age(self) -> float:
        """The age the brain looks, in years."""
        return self.age + self.brain_age_gap


def stream(config: SimulatorConfig, participant: int, use: Stream, session: int = 0) -> np.random.Generator:
    """Return the generator of one use; session 0 stands for what all sessions share.

    The seed comes last because it alone may exceed 32 bits: no two keys then give the same words.
    """
    return np.random.default_rng([participant, int(use), session, config.seed])


def age_at(quantile: float) -> float:
    """Return the age in years below which a share ``quantile`` of the population lies.

    >>> age_at(0.0), age_at(1.0)
    (45.0, 80.0)
    """
    return float(np.interp(quantile, _CUMULATIVE, _BIN_EDGES))


def demographics(config: SimulatorConfig, participant: int) -> Demographics:
    """Return who ``participant`` is: a pure function of the seed and the participant.

    The age has two decimals, as a participants.tsv would carry it.
    """
    rng = stream(config, participant, Stream.DEMOGRAPHICS)
    weights = np.array([site.weight for site in config.sites])
    age = round(age_at(rng.random()), 2)
    sex = "FM"[int(rng.random() < 0.5)]
    site = int(np.searchsorted(np.cumsum(weights / weights.sum())[:-1], rng.random(), side="right"))
    gap = config.brain_age_sd * float(rng.standard_normal())
    deviations = Deviations(*rng.standard_normal(len(Deviations._fields)).tolist())
    return Demographics(participant, age, sex, config.sites[site].label, gap, deviations)


def simulated_covariates(config: SimulatorConfig, numbers: Sequence[int]) -> Covariates:
    """Return age, sex and site of the participants ``numbers``, session by session; no volume is made."""
    people = [demographics(config, number) for number in numbers]
    labels = [str(s) for s in range(1, config.sessions + 1)] if config.sessions > 1 else [""]
    return Covariates(
        scans=tuple(ScanId(f"{n:04d}", label) for n in numbers for label in labels),
        age=np.repeat([p.age for p in people], config.sessions),
        sex=np.repeat([p.sex for p in people], config.sessions),
        site=np.repeat([p.site for p in people], config.sessions),
    )
