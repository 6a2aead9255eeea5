"""Small, named inputs on unequal axes."""

import gc
from dataclasses import dataclass

import numpy as np
import pytest

from privoxel.cohort.base import Cohort, Covariates, Grid, ScanId

TINY_GRID = Grid((8, 10, 9), 20.0, (-80.0, -112.0, -72.0))


@dataclass(frozen=True)
class ArrayVolumes:
    """Volumes held in memory."""

    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def volume(self, row: int) -> np.ndarray:
        return self.values[row]


def make_cohort(participants: int = 24, *, sessions: int = 1, seed: int = 0) -> Cohort:
    """Return random volumes in which one corner brightens with age."""
    rng = np.random.default_rng(seed)
    names = [f"{k:03d}" for k in range(participants) for _ in range(sessions)]
    labels = [str(s + 1) if sessions > 1 else "" for _ in range(participants) for s in range(sessions)]
    age = np.repeat(rng.uniform(45, 80, participants), sessions)
    volumes = rng.standard_normal((len(age), *TINY_GRID.shape)).astype(np.float32)
    volumes[:, :4, :5, :4] += ((age - 62) / 8)[:, None, None, None].astype(np.float32)
    covariates = Covariates(
        tuple(ScanId(n, s) for n, s in zip(names, labels, strict=True)),
        age,
        np.array(["F", "M"])[rng.integers(2, size=len(age))],
        np.array(["north", "south"])[rng.integers(2, size=len(age))],
    )
    fingerprint = f"tiny-{seed}-{participants}-{sessions}"
    return Cohort("tiny", covariates, TINY_GRID, ArrayVolumes(volumes), fingerprint)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20210707)


@pytest.fixture
def tiny_cohort() -> Cohort:
    return make_cohort()


@pytest.fixture(autouse=True)
def files_that_ray_leaves(request):
    """Free the files that Ray opened and left in cycles, or their warning would fail a later test."""
    yield
    if request.node.get_closest_marker("ray"):
        gc.collect()
