"""Members who are among the non-members under another name.

A copy of a member's scan, re-processed or not, or another scan of a member is no non-member: the model has
seen that person. Such a non-member is left out of judging and counted; the member stays. The names are for
the owner of the scans alone, never for a report.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.arrays import IntArray
from privoxel.cohort.base import Cohort
from privoxel.cohort.likeness import fingerprints
from privoxel.cohort.near_duplicates import NearDuplicates, near_duplicates
from privoxel.cohort.splits import EXCLUDED, MEMBER, NON_MEMBER

NAMES = {MEMBER: "a member", NON_MEMBER: "a non-member", EXCLUDED: "excluded"}


@final
@dataclass(frozen=True)
class Overlap:
    """What was found, and the states after that.

    ``states`` are those given, but EXCLUDED for each of ``left_out``, the non-members who are members under
    another name. ``named`` are sentences that name people, for the owner alone; ``notes`` say the same in
    numbers, for a report. ``limit`` is the likeness above which two scans count as of one person, None if
    there were too few scans to set one.
    """

    states: Mapping[str, int]
    left_out: tuple[str, ...]
    named: tuple[str, ...]
    notes: tuple[str, ...]
    limit: float | None


def find_overlap(
    cohort: Cohort,
    states: Mapping[str, int],
    *,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Overlap:
    """Return who is in ``cohort`` under two names, and the states without members among the non-members.

    Each scan is read once: cache the cohort first.

    Args:
        cohort: members and non-members (and others); one person's scans bear one participant's name.
        states: MEMBER, NON_MEMBER or EXCLUDED of each participant; who is not in it is excluded.
        workers: threads that read; by default one per core, at most 8.
        progress: called with 1 whenever a scan is read.
    """
    people = cohort.covariates.participant_index
    prints = fingerprints(
        cohort.volume, len(cohort), voxel_mm=cohort.grid.voxel_mm, workers=workers, progress=progress
    )
    found = near_duplicates(prints, people)
    names = cohort.covariates.participants
    own = [states.get(name, EXCLUDED) for name in names]
    persons = _persons(found, people, len(names))
    seen = {int(persons[k]) for k, state in enumerate(own) if state == MEMBER}
    copies = [k for k, state in enumerate(own) if state == NON_MEMBER and int(persons[k]) in seen]
    return Overlap(
        states={**states, **{names[k]: EXCLUDED for k in copies}},
        left_out=tuple(names[k] for k in copies),
        named=tuple(pair_lines(found, cohort, states)),
        notes=_notes(found, len(copies), own, persons),
        limit=found.limit,
    )


def pair_lines(found: NearDuplicates, cohort: Cohort, states: Mapping[str, int] | None = None) -> list[str]:
    """Return a sentence for each pair of names that stand for one person, for the owner alone."""
    scans = cohort.covariates.scans
    lines = []
    for pair in found.pairs:
        first, second = scans[pair.first], scans[pair.second]
        how = (
            "hold the same voxels" if pair.is_identical else f"show one person (likeness {pair.likeness:.2f}"
        )
        how += "" if pair.is_identical else f", limit {found.limit or 0:.2f})"
        who = [str(first), str(second)]
        if states is not None:
            groups = [NAMES[states.get(scan.participant, EXCLUDED)] for scan in (first, second)]
            who = [f"{name} ({group})" for name, group in zip(who, groups, strict=True)]
        lines.append(f"{who[0]} and {who[1]} {how}")
    return lines


def _persons(found: NearDuplicates, people: IntArray, count: int) -> IntArray:
    """Return a number for each participant, the same for all names of one person."""
    persons = np.arange(count, dtype=np.int64)
    for pair in found.pairs:
        one, other = persons[people[pair.first]], persons[people[pair.second]]
        persons[persons == max(one, other)] = min(one, other)
    return persons


def _notes(found: NearDuplicates, copies: int, own: Sequence[int], persons: IntArray) -> tuple[str, ...]:
    notes = []
    if copies:
        notes.append(
            f"{copies} non-members are members under another name (the same voxels, a re-processed copy or "
            "another scan) and left out."
        )
    for state, name in ((MEMBER, "members"), (NON_MEMBER, "non-members")):
        inside = persons[np.asarray(own) == state]
        twice = len(inside) - len(np.unique(inside))
        if twice and (state == MEMBER or twice > copies):
            notes.append(f"{twice} of the {name} are there a second time under another name.")
    if found.limit is None:
        notes.append(
            "There are too few scans to tell a re-processed copy or another scan of a member from another "
            "person; only identical images were looked for."
        )
    return tuple(notes)
