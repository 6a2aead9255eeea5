"""Several cohorts as one: the scans of each data set one after the other, on one grid."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from privoxel.arrays import Float32Array, IntArray
from privoxel.cohort.base import Cohort, Covariates, ScanId, VolumeSource
from privoxel.errors import CohortError


def join_cohorts(cohorts: Sequence[Cohort], *, one_study: bool = False) -> Cohort:
    """Return one cohort of all scans; participants are called ``DATASET.PARTICIPANT``.

    A scan without a site takes the name of its data set; a further column that a data set lacks is not known
    (NaN) there. Folders of ``one_study`` keep their participants' names and sites: there "007" of one folder
    and "007" of another are the same person.

    Raises:
        CohortError: if grids differ, two data sets have one name, or two folders the same scan.
    """
    if len(cohorts) == 1:
        return cohorts[0]
    faults = []
    if len({cohort.grid for cohort in cohorts}) > 1:
        faults.append("one voxel grid, got " + ", ".join(repr(cohort.grid) for cohort in cohorts))
    repeated = [name for name, count in Counter(cohort.name for cohort in cohorts).items() if count > 1]
    if repeated and not one_study:
        faults.append(f"data sets of different names, got {', '.join(repeated)} twice")
    if faults:
        raise CohortError(f"Joining cohorts needs {' and '.join(faults)}. Correct the data sets.")
    first = cohorts[0]
    digest = hashlib.sha256("\0".join(cohort.fingerprint for cohort in cohorts).encode())
    return Cohort(
        name=" + ".join(cohort.name for cohort in cohorts),
        covariates=_joined_covariates([c.covariates if one_study else _named(c) for c in cohorts]),
        grid=first.grid,
        source=_Joined(tuple(cohort.source for cohort in cohorts)),
        fingerprint=f"joined-{digest.hexdigest()}",
        history=tuple(dict.fromkeys(step for cohort in cohorts for step in cohort.history)),
        is_simulated=all(cohort.is_simulated for cohort in cohorts),
        problems=tuple(problem for cohort in cohorts for problem in cohort.problems),
    )


def _joined_covariates(parts: Sequence[Covariates]) -> Covariates:
    return Covariates(
        scans=tuple(scan for part in parts for scan in part.scans),
        age=np.concatenate([part.age for part in parts]),
        sex=np.concatenate([part.sex for part in parts]),
        site=np.concatenate([part.site for part in parts]),
        columns={
            name: np.concatenate([part.columns.get(name, np.full(len(part), np.nan)) for part in parts])
            for name in dict.fromkeys(name for part in parts for name in part.columns)
        },
    )


def _named(cohort: Cohort) -> Covariates:
    people = cohort.covariates
    scans = tuple(
        ScanId(f"{cohort.name}.{scan.participant}", scan.session, scan.rec) for scan in people.scans
    )
    return replace(people, scans=scans, site=np.where(people.site == "", cohort.name, people.site))


@final
@dataclass(frozen=True)
class _Joined:
    sources: tuple[VolumeSource, ...]

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def volume(self, row: int) -> Float32Array:
        """Return the volume of scan ``row``."""
        source, inner = self._place(row)
        return source.volume(inner)

    def read_into(self, rows: IntArray, out: Float32Array) -> None:
        """Write the volumes of ``rows`` to ``out`` (rows, x, y, z)."""
        for place, row in enumerate(rows):
            out[place] = self.volume(int(row))

    def _place(self, row: int) -> tuple[VolumeSource, int]:
        for source in self.sources:
            if row < len(source):
                return source, row
            row -= len(source)
        raise IndexError(row)
