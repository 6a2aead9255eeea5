"""Dividing a cohort among learners from the command line: the numbers, the figure, who is where."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from privoxel.arrays import FloatArray
from privoxel.cohort.base import Covariates, Grid
from privoxel.cohort.demographics import simulated_covariates
from privoxel.cohort.effects import SimulatorConfig
from privoxel.cohort.environments import draw_partition
from privoxel.cohort.partitions import UNSEEN, Partition
from privoxel.cohort.splits import age_of_participants
from privoxel.config import PartitionConfig
from privoxel.errors import ConfigError
from privoxel.report.ages import ages_by_learner_chart
from privoxel.report.svg import standalone
from privoxel.seeding import Streams

LIST, FIGURE, SUMMARY = "learners.tsv", "ages.svg", "partition.json"


@final
@dataclass(frozen=True)
class PartitionedCohort:
    """A cohort's covariates with the partition drawn of them."""

    covariates: Covariates
    partition: Partition
    settings: PartitionConfig
    seed: int

    def ages(self) -> dict[str, FloatArray]:
        """Return the ages in years of each learner's participants, and of the unseen ones."""
        age = dict(
            zip(self.covariates.participants, age_of_participants(self.covariates).tolist(), strict=True)
        )
        return {
            name: np.array([age[p] for p in self.partition.participants(name)], dtype=np.float64)
            for name in (*self.partition.learners, UNSEEN)
        }


def partition_simulated(participants: int, config: PartitionConfig, seed: int) -> PartitionedCohort:
    """Return a partition of simulated participants 1 to ``participants``; no volume is made."""
    return _divided(
        simulated_covariates(SimulatorConfig(seed=seed), range(1, participants + 1)), config, seed
    )


def partition_path(
    path: Path, config: PartitionConfig, seed: int, *, skip_bad: bool = False, root: Path | None = None
) -> PartitionedCohort:
    """Return a partition of the real cohort at ``path``; its headers are read, its voxels are not.

    Raises:
        CohortError: if there is no cohort at ``path``, or scans of it cannot be used.
    """
    from privoxel.cohort.bids import load_cohort  # noqa: PLC0415 - imports nibabel

    cohort = load_cohort(path, grid=Grid.mni(4.0), skip_bad=skip_bad, root=root)
    return _divided(cohort.covariates, config, seed)


def _divided(covariates: Covariates, config: PartitionConfig, seed: int) -> PartitionedCohort:
    rng = Streams(seed).generator("federation/partition")
    return PartitionedCohort(covariates, draw_partition(config, covariates, rng), config, seed)


def partition_record(drawn: PartitionedCohort) -> dict[str, Any]:
    """Return sizes and ages of the learners as plain values for JSON; no participant is named."""
    groups = [_group(name, ages) for name, ages in drawn.ages().items()]
    named = sum(group["participants"] for group in groups)
    return {
        "settings": drawn.settings.model_dump(mode="json", exclude_none=True),
        "seed": drawn.seed,
        "learners": groups[:-1],
        "unseen": groups[-1],
        "left_out": len(drawn.covariates.participants) - named,
    }


def _group(name: str, ages: FloatArray) -> dict[str, Any]:
    known = ages.size > 0
    return {
        "name": name,
        "participants": int(ages.size),
        "age_mean": float(ages.mean()) if known else None,
        "age_sd": float(ages.std()) if known else None,
    }


def write_partition(drawn: PartitionedCohort, folder: Path) -> None:
    """Write who is where (``learners.tsv``, for the owner only), ``partition.json`` and ``ages.svg``.

    Raises:
        ConfigError: if ``folder`` holds a partition already.
    """
    listed = folder / LIST
    if listed.exists():
        raise ConfigError(f"A partition needs a folder of its own, got {folder} with {LIST}. Choose another.")
    folder.mkdir(parents=True, exist_ok=True)
    place = {
        p: name for name in (*drawn.partition.learners, UNSEEN) for p in drawn.partition.participants(name)
    }
    listed.touch(mode=0o600)
    with listed.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, delimiter="\t", lineterminator="\n")
        rows.writerow(("participant_id", "learner"))
        rows.writerows((f"sub-{p}", place.get(p, "n/a")) for p in drawn.covariates.participants)
    (folder / SUMMARY).write_text(json.dumps(partition_record(drawn), indent=1) + "\n", encoding="utf-8")
    ages = drawn.ages()
    picture = ages_by_learner_chart(ages, ages.pop(UNSEEN), key="ages")
    (folder / FIGURE).write_text(standalone(picture.svg), encoding="utf-8")
