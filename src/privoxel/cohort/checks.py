"""Everything wrong with a cohort, found by reading all of it once."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from privoxel.cohort.base import Cohort
from privoxel.cohort.cache import read_checked, threads
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


class _Reading(NamedTuple):
    content: str
    problem: Problem | None


def check_cohort(
    cohort: Cohort, *, workers: int | None = None, progress: Callable[[int], None] | None = None
) -> CohortCheck:
    """Return everything wrong with ``cohort`` after reading each of its volumes once.

    Load it with ``skip_bad=True`` first, so that the problems of tables and headers are listed too. Besides
    volumes that cannot be used it finds images that stand for two participants: the same preprocessed
    values, to the last bit.
    """
    with threads(workers) as pool:
        readings = []
        for reading in pool.map(lambda row: _read(cohort, row), range(len(cohort))):
            readings.append(reading)
            if progress:
                progress(1)
    contents = [reading.content for reading in readings]
    unusable = [reading.problem for reading in readings if reading.problem]
    covariates = cohort.covariates
    first = np.unique(covariates.participant_index, return_index=True)[1]
    return CohortCheck(
        name=cohort.name,
        n_participants=len(first),
        n_scans=len(cohort),
        ages=_summary(covariates.age[first]),
        sexes=dict(sorted(Counter(map(str, covariates.sex[first])).items())),
        sites=dict(sorted(Counter(map(str, covariates.site[first])).items())),
        problems=(*cohort.problems, *unusable, *_shared_images(cohort, contents)),
        warnings=_warnings(cohort, contents),
    )


def _read(cohort: Cohort, row: int) -> _Reading:
    try:
        volume = read_checked(cohort, row)
    except ProblemsError as error:
        return _Reading("", error.problems[0])
    return _Reading(hashlib.blake2b(volume.tobytes(), digest_size=20).hexdigest(), None)


def _summary(ages: np.ndarray[tuple[int], np.dtype[np.float64]]) -> AgeSummary:
    if ages.size == 0:
        return AgeSummary(np.nan, np.nan, np.nan, np.nan)
    return AgeSummary(float(ages.mean()), float(ages.std()), float(ages.min()), float(ages.max()))


def _same_content(contents: Sequence[str]) -> list[list[int]]:
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for row, content in enumerate(contents):
        if content:
            groups[content].append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def _shared_images(cohort: Cohort, contents: Sequence[str]) -> list[Problem]:
    """Name each image that is given for several participants, once."""
    scans = cohort.covariates.scans
    problems = []
    for rows in _same_content(contents):
        people = dict.fromkeys(scans[row].participant for row in rows)
        if len(people) > 1:
            places = ", ".join(place_of(cohort, row) for row in rows[1:])
            problems.append(
                Problem(
                    place_of(cohort, rows[0]),
                    f"holds the same image as {places}, of another participant",
                    "Find out whose it is; one person under two names would be member and non-member",
                    next(iter(people)),
                )
            )
    return problems


def _warnings(cohort: Cohort, contents: Sequence[str]) -> tuple[str, ...]:
    covariates = cohort.covariates
    scans = covariates.scans
    repeated = sum(len({scans[row].participant for row in rows}) == 1 for rows in _same_content(contents))
    counts = {
        "scans are of unknown sex": int((covariates.sex == "").sum()),
        "scans are of an unknown site": int((covariates.site == "").sum()),
        "images are there more than once for the same participant": repeated,
    }
    found = [f"{n} of {len(cohort)} {what}." for what, n in counts.items() if n]
    spaces = next((step for step in cohort.history if step.startswith(SPACES)), "").removeprefix(SPACES)
    if any(space and not space.startswith("MNI152") for space in spaces.split(", ")):
        found.append(f"Images must be registered to MNI152; their names say: space {spaces}.")
    if len(spaces.split(", ")) > 1:
        found.append(f"Images are in different spaces ({spaces}); prepare all of them in one way.")
    n_sites = len(set(map(str, covariates.site)) - {""})
    if n_sites > 1:
        found.append(
            f"There are {n_sites} sites; members and non-members must be drawn from each alike, or an attack "
            "recognises the scanner."
        )
    return tuple(found)
