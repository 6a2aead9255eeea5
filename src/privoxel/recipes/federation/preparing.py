"""Before a federation trains: which scans, who holds them, and whether one person is held twice."""

import hashlib
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from privoxel.cohort.base import Cohort, Covariates
from privoxel.cohort.environments import draw_partition
from privoxel.cohort.joined import join_cohorts
from privoxel.cohort.partitions import Partition
from privoxel.config import RunConfig
from privoxel.errors import ConfigError, FederationError
from privoxel.recipes.cohorts import describe_cohort
from privoxel.recipes.federation.settings import FederateConfig
from privoxel.seeding import Streams


def describe_cohorts(
    config: FederateConfig, paths: Sequence[Path], *, skip_bad: bool, root: Path | None
) -> Cohort:
    """Return the scans of all data sets at ``paths`` as one cohort, volumes not yet read.

    Raises:
        ConfigError: if a real cohort is asked for without a path, or a simulated one with it.
        ProblemsError: listing every fault of a data set, unless ``skip_bad``.
    """
    run = RunConfig(seed=config.seed, cohort=config.cohort)
    places: list[Path | None] = [*paths] or [None]
    return join_cohorts([describe_cohort(run, path, skip_bad=skip_bad, root=root) for path in places])


def partition_of(config: FederateConfig, covariates: Covariates) -> Partition:
    """Return who holds whom: the same for the same seed and participants."""
    partition = draw_partition(
        config.partition, covariates, Streams(config.seed).generator("federation/partition")
    )
    unknown = [name for name in victims_of(config, partition) if name not in partition.learners]
    if unknown:
        raise ConfigError(
            f"[controls] left_out needs names among {', '.join(partition.learners)}, got "
            f"{', '.join(unknown)}. Correct them."
        )
    return partition


def victims_of(config: FederateConfig, partition: Partition) -> tuple[str, ...]:
    """Return the learners without whom a control federation is trained: a seeded one, all, none or named."""
    asked = config.controls.left_out
    if asked == "none":
        return ()
    if asked == "all":
        return partition.learners
    if asked == "one":
        rng = Streams(config.seed).generator("federation/left-out")
        return (partition.learners[int(rng.integers(len(partition.learners)))],)
    return tuple(asked)


def check_shared_images(cohort: Cohort, partition: Partition) -> None:
    """Raise ``FederationError`` if two learners, or a learner and the unseen set, hold the same image.

    One person at two sites would be member and non-member at once. Only numbers of images are told.
    """
    holders = {**dict(zip(partition.learners, partition.groups, strict=True)), "unseen": partition.unseen}
    contents = {
        name: {
            hashlib.blake2b(cohort.volume(int(row)).tobytes(), digest_size=20).digest()
            for row in cohort.rows_of(people)
        }
        for name, people in holders.items()
    }
    shared = {pair: len(contents[pair[0]] & contents[pair[1]]) for pair in combinations(contents, 2)}
    found = [f"{count} at {a} and {b}" for (a, b), count in shared.items() if count]
    if found:
        raise FederationError(
            f"A federation needs every person at one learner, got the same image twice: {', '.join(found)}. "
            "Find out whose they are (privoxel cohort check) and keep them at one."
        )
