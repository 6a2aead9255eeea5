"""Everything wrong with a cohort, found by reading all of it once."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from privoxel.arrays import Float32Array
from privoxel.cohort.base import Cohort
from privoxel.cohort.cache import read_checked
from privoxel.cohort.likeness import Fingerprints, fingerprints
from privoxel.cohort.near_duplicates import NearDuplicates, near_duplicates
from privoxel.cohort.nifti import SPACES, place_of
from privoxel.errors import Problem, ProblemsError


class AgeSummary(NamedTuple):
    """Ages of the participants (their first scan), years."""

    mean: float
    sd: float
    youngest: float
    oldest: float


@final
@dataclass(frozen=True)
class CohortCheck:
    """What a cohort holds and what is wrong with it.

    ``problems`` are scans that cannot be used (those left out when loading first); ``warnings`` are sentences
    on what can be used but should be known. Sexes and sites count participants.
    """

    name: str
    n_participants: int
    n_scans: int
    ages: AgeSummary
    sexes: dict[str, int]
    sites: dict[str, int]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Whether there is no problem (there may be warnings)."""
        return not self.problems


def check_cohort(
    cohort: Cohort, *, workers: int | None = None, progress: Callable[[int], None] | None = None
) -> CohortCheck:
    """Return everything wrong with ``cohort`` after reading each of its volumes once.

    Load it with ``skip_bad=True`` first, so that the problems of tables and headers are listed too. Besides
    volumes that cannot be used it finds people who are there under two names: by the same preprocessed
    values, to the last bit, or by images more alike than those of two people (``near_duplicates.py``).
    """
    faults: dict[int, Problem] = {}

    def volume(row: int) -> Float32Array | None:
        try:
            return read_checked(cohort, row)
        except ProblemsError as error:
            faults[row] = error.problems[0]
            return None

    prints = fingerprints(
        volume, len(cohort), voxel_mm=cohort.grid.voxel_mm, workers=workers, progress=progress
    )
    unusable = [faults[row] for row in sorted(faults)]
    found = near_duplicates(prints, cohort.covariates.participant_index)
    covariates = cohort.covariates
    first = np.unique(covariates.participant_index, return_index=True)[1]
    return CohortCheck(
        name=cohort.name,
        n_participants=len(first),
        n_scans=len(cohort),
        ages=_summary(covariates.age[first]),
        sexes=dict(sorted(Counter(map(str, covariates.sex[first])).items())),
        sites=dict(sorted(Counter(map(str, covariates.site[first])).items())),
        problems=(*cohort.problems, *unusable, *_shared_people(cohort, found)),
        warnings=_warnings(cohort, prints, found),
    )


def _summary(ages: np.ndarray[tuple[int], np.dtype[np.float64]]) -> AgeSummary:
    if ages.size == 0:
        return AgeSummary(np.nan, np.nan, np.nan, np.nan)
    return AgeSummary(float(ages.mean()), float(ages.std()), float(ages.min()), float(ages.max()))


def _shared_people(cohort: Cohort, found: NearDuplicates) -> list[Problem]:
    """Name each pair of scans that show one person under two names."""
    problems = []
    for pair in found.pairs:
        other = place_of(cohort, pair.second)
        what = f"holds the same image as {other}, of another participant"
        if not pair.is_identical:
            what = (
                f"shows the same person as {other}, of another participant, to all appearance "
                f"(likeness {pair.likeness:.2f}, limit {found.limit or 0:.2f})"
            )
        problems.append(
            Problem(
                place_of(cohort, pair.first),
                what,
                "Find out whose it is; one person under two names would be member and non-member",
                cohort.covariates.scans[pair.first].participant,
            )
        )
    return problems


def _repeated_images(cohort: Cohort, prints: Fingerprints) -> int:
    """Return how many images are there more than once for one participant."""
    keys = zip(cohort.covariates.participant_index.tolist(), prints.content, strict=True)
    return sum(count > 1 for count in Counter(key for key in keys if key[1]).values())


def _warnings(cohort: Cohort, prints: Fingerprints, found: NearDuplicates) -> tuple[str, ...]:
    covariates = cohort.covariates
    counts = {
        "scans are of unknown sex": int((covariates.sex == "").sum()),
        "scans are of an unknown site": int((covariates.site == "").sum()),
        "images are there more than once for the same participant": _repeated_images(cohort, prints),
    }
    lines = [f"{n} of {len(cohort)} {what}." for what, n in counts.items() if n]
    if found.limit is None:
        lines.append("There are too few scans to tell a re-processed copy or a rescan from another person.")
    spaces = next((step for step in cohort.history if step.startswith(SPACES)), "").removeprefix(SPACES)
    if any(space and not space.startswith("MNI152") for space in spaces.split(", ")):
        lines.append(f"Images must be registered to MNI152; their names say: space {spaces}.")
    if len(spaces.split(", ")) > 1:
        lines.append(f"Images are in different spaces ({spaces}); prepare all of them in one way.")
    n_sites = len(set(map(str, covariates.site)) - {""})
    if n_sites > 1:
        lines.append(
            f"There are {n_sites} sites; members and non-members must be drawn from each alike, or an attack "
            "recognises the scanner."
        )
    return tuple(lines)
