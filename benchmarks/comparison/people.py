"""Who trains what, who is leaked and who is judged: every draw a function of the seed and its name alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import numpy as np

from comparison.settings import Comparison
from privoxel.arrays import BoolArray, IntArray
from privoxel.cohort.base import Cohort, Grid
from privoxel.cohort.cache import cache_volumes
from privoxel.cohort.effects import SimulatorConfig
from privoxel.cohort.shadow_design import balanced_design
from privoxel.cohort.simulated import simulate_cohort
from privoxel.errors import ConfigError
from privoxel.seeding import Streams


class Draw(NamedTuple):
    """Pool rows: the members of a target, those leaked of both classes, and those judged."""

    members: BoolArray
    leaked: IntArray
    judged: IntArray


@final
@dataclass(frozen=True)
class Groups:
    """Rows of the cohort by use: first the pool, then the references' people, then those unseen by all."""

    settings: Comparison

    @property
    def streams(self) -> Streams:
        """Root of all randomness."""
        return Streams(self.settings.people.seed)

    @property
    def pool(self) -> IntArray:
        """Judged people."""
        return np.arange(self.settings.people.pool)

    @property
    def outside(self) -> IntArray:
        """People that only references train on."""
        start = self.settings.people.pool
        return np.arange(start, start + self.settings.people.references)

    @property
    def unseen(self) -> IntArray:
        """People whom no model trains on: the population of RMIA and of attack P."""
        start = self.settings.people.pool + self.settings.people.references
        return np.arange(start, start + self.settings.people.unseen)

    def target(self, number: int, leaked: int) -> Draw:
        """Return the draw of a target with ``leaked`` people of each class.

        A smaller leak is part of a larger one, and the judged people are the same for all sizes.
        """
        size, most = self.settings.people.members, max(self.settings.attacks.leaked)
        order = self.streams.generator(f"target-{number}/people").permutation(self.pool)
        members, others = order[:size], order[size:]
        inside = np.zeros(len(self.pool), dtype=np.bool_)
        inside[members] = True
        return Draw(
            inside,
            np.concatenate([members[:leaked], others[:leaked]]),
            np.sort(np.concatenate([members[most:], others[most:]])),
        )

    def reference(self, number: int) -> IntArray:
        """Return the people of a reference model: as many as a target's, all outside the pool."""
        order = self.streams.generator(f"reference-{number}/people").permutation(self.outside)
        return np.sort(order[: self.settings.people.members])

    def references_of(self, number: int) -> IntArray:
        """Return which references attack a target: neighbours on a ring, so that no two targets share all.

        The first one is also the target's shadow of the paper's Appendix E, outside the pool.
        """
        trainings = self.settings.trainings
        return (number + np.arange(trainings.references_a_target)) % max(trainings.references, 1)

    def shadows(self) -> BoolArray:
        """Return shadows × pool: who trains each shadow."""
        trainings = self.settings.trainings
        if not trainings.shadows:
            return np.zeros((0, len(self.pool)), dtype=np.bool_)
        return balanced_design(
            [str(row) for row in self.pool],
            trainings.shadows,
            self.streams.generator("shadows/people"),
            fraction=trainings.shadow_fraction,
        ).inside

    def own_people(self, shadow: int) -> IntArray:
        """Return whom a shadow of the pool is attacked on itself: who trained it, and as many others."""
        inside = self.shadows()[shadow]
        rng = self.streams.generator(f"shadow-{shadow}/others")
        others = rng.permutation(np.flatnonzero(~inside))[: inside.sum()]
        return np.sort(np.concatenate([np.flatnonzero(inside), others]))


def read_people(settings: Comparison, folder: Path, real: Path | None) -> Cohort:
    """Return the simulated cohort or that in ``real``, one scan a participant, volumes kept in ``folder``."""
    people = settings.people
    if people.kind == "simulated":
        config = SimulatorConfig(seed=people.seed, resolution_mm=people.resolution_mm)
        return cache_volumes(simulate_cohort(config, people.everyone), folder=folder, workers=1)
    if real is None:
        raise ConfigError("A comparison on real people needs --cohort DIR, got none. Add it.")
    from privoxel.cohort.bids import load_cohort  # noqa: PLC0415 - imports nibabel

    found = load_cohort(real, grid=Grid.mni(people.resolution_mm), where=people.where, skip_bad=True)
    first = np.unique(found.covariates.participant_index, return_index=True)[1]
    if len(first) < people.everyone:
        raise ConfigError(
            f"The comparison needs {people.everyone} participants, got {len(first)} in {real}. "
            "Change [people] of the settings."
        )
    order = Groups(settings).streams.generator("people").permutation(first)[: people.everyone]
    return cache_volumes(found.select(order), folder=folder, workers=1)
