"""Who of a cohort trained a model: a column ``member``, two lists of ids, or two folders.

Everything that is wrong is told at once: ids that nobody in the cohort bears (with those that may be meant),
people on both sides, words that are neither yes nor no, and whatever is wrong with the scans.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, final

import numpy as np
import numpy.typing as npt

from privoxel.cohort.base import Cohort, Covariates
from privoxel.cohort.bids import SKIP_HINT, participants_table
from privoxel.cohort.columns import one_of_many
from privoxel.cohort.joined import join_cohorts
from privoxel.cohort.listed import Listed, listed_column, listed_ids, read_listed
from privoxel.cohort.predictions import check_groups
from privoxel.cohort.splits import EXCLUDED, MEMBER, NON_MEMBER, Design
from privoxel.errors import CohortError, Problem, ProblemsError

Int8Array = npt.NDArray[np.int8]
Who = Iterable[str] | npt.NDArray[np.bool_] | Cohort | Path
"""Participants as a program says them: ids, a mask over participants or scans, a cohort, or a list's file."""
SHOWN = 20
"""Unknown ids that are named one by one, each with the nearest known one."""

REST = "the rest of the cohort"
MEMBERS_HINT = "Or name members and non-members by --members and --non-members (lists of ids, or folders)."


@final
@dataclass(frozen=True)
class Grouped:
    """A cohort and who of it is a member.

    ``states`` holds MEMBER, NON_MEMBER or EXCLUDED for each of ``cohort.covariates.participants``; ``notes``
    are sentences that a reader should know (how many are in neither group, what was left out), without ids.
    """

    cohort: Cohort
    states: Int8Array
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        people = len(self.cohort.covariates.participants)
        if self.states.shape != (people,):
            raise CohortError(
                f"Grouped needs one state for each of {people} participants, got shape {self.states.shape}."
            )

    @property
    def scan_states(self) -> Int8Array:
        """The state of each scan: its participant's."""
        return self.states[self.cohort.covariates.participant_index]

    @property
    def design(self) -> Design:
        """The groups by name; who is excluded is in none."""
        return Design(self._named(MEMBER), self._named(NON_MEMBER))

    def _named(self, state: int) -> tuple[str, ...]:
        people = self.cohort.covariates.participants
        return tuple(name for name, own in zip(people, self.states, strict=True) if own == state)

    def without(self, participants: Collection[str], note: str) -> "Grouped":
        """Return the same with some participants excluded, and why."""
        people = self.cohort.covariates.participants
        gone = np.array([name in participants for name in people], dtype=np.bool_)
        states = np.where(gone, np.int8(EXCLUDED), self.states)
        return Grouped(self.cohort, states, (*self.notes, note))


class Assigned(NamedTuple):
    """A state for each participant, what is wrong with the lists, and what a reader should know."""

    states: Int8Array
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


@final
@dataclass(frozen=True)
class Sources:
    """Where a cohort and its groups come from.

    ``cohort``: BIDS folder, folder of images or table; None where ``members`` and ``non_members`` are the
    folders with the scans. ``members``, ``non_members``: lists (text, table, JSON) or folders. Without either
    the cohort's table needs a column ``member``; with ``members`` alone everyone else is a non-member.
    ``members_only``: do without non-members.
    """

    cohort: Path | None = None
    members: Path | None = None
    non_members: Path | None = None
    members_only: bool = False


class CohortLoader(Protocol):
    """Loads a cohort from a folder or table (``bids.load_cohort`` with its grid and options bound)."""

    def __call__(self, path: Path, /, *, skip_bad: bool) -> Cohort:
        """Return the cohort at ``path``."""
        ...


@final
@dataclass(frozen=True)
class Loaded:
    """Gives a cohort that is loaded already."""

    cohort: Cohort

    def __call__(self, path: Path, /, *, skip_bad: bool) -> Cohort:  # noqa: ARG002 - as loaders are called
        """Return that cohort."""
        return self.cohort


def load_grouped(sources: Sources, load: CohortLoader, *, skip_bad: bool = False) -> Grouped:
    """Return the cohort of ``sources`` and who of it is a member; voxels are read later.

    Args:
        sources: where they come from.
        load: ``partial(load_cohort, grid=..., normalise=..., root=...)``.
        skip_bad: leave out scans and ids that are at fault, people of both groups included.

    Raises:
        ProblemsError: with everything that is wrong with scans and lists.
        CohortError: if there are no members or nobody else, or too few sources are given.
    """
    members, others = sources.members, sources.non_members
    if sources.cohort is None:
        if members is None or others is None or not (members.is_dir() and others.is_dir()):
            raise CohortError(
                "Members and non-members need a cohort (--cohort), or a folder of scans each, got "
                f"{_described(members, others)}. Give --cohort, or both folders."
            )
        return _of_folders(members, others, load, skip_bad=skip_bad)
    if members is None and others is not None:
        raise CohortError(
            "Non-members need members beside them, got --non-members alone. Give --members too: who trained "
            "the model must be said, not guessed."
        )
    given, faults = _read_lists(sources.cohort, members, others)
    try:
        cohort = load(sources.cohort, skip_bad=True)
    except ProblemsError as error:
        faults += [problem for listed in given for problem in listed.problems]
        if not faults:
            raise
        title = f"Cohort {sources.cohort.name} cannot be used as given"
        raise ProblemsError(title, [*error.problems, *one_of_many(faults)]) from error
    if faults:
        footer = "" if members else MEMBERS_HINT
        title = f"Cohort {sources.cohort.name} does not say who is a member"
        raise ProblemsError(title, one_of_many([*faults, *cohort.problems]), footer)
    return group(cohort, *given, skip_bad=skip_bad, members_only=sources.members_only)


def _read_lists(
    cohort: Path, members: Path | None, others: Path | None
) -> tuple[list[Listed], list[Problem]]:
    """Return the lists of members and non-members, and what keeps them from being read."""
    lists: list[Listed] = []
    faults: list[Problem] = []
    for path in (members, *([] if others is None else [others])):
        try:
            lists.append(_column_of(cohort) if path is None else read_listed(path))
        except ProblemsError as error:
            faults += error.problems
    return lists, faults


def group(
    cohort: Cohort,
    members: Listed,
    non_members: Listed | None = None,
    *,
    skip_bad: bool = False,
    members_only: bool = False,
) -> Grouped:
    """Return ``cohort`` with the states that lists give; ``cohort.problems`` count as problems too.

    With ``members_only`` nobody else is needed.

    Raises:
        ProblemsError: with everything that is wrong, unless ``skip_bad``.
        CohortError: if there are no members, or nobody else.
    """
    unusable = {problem.participant for problem in cohort.problems if problem.participant}
    found = assign(cohort.covariates.participants, members, non_members, unusable=unusable)
    _refuse(f"Cohort {cohort.name}", [*cohort.problems, *found.problems], skip_bad=skip_bad)
    return _grouped(cohort, found, members.place, members_only=members_only)


def group_by_ids(
    cohort: Cohort, members: Who, non_members: Who | None = None, *, skip_bad: bool = False
) -> Grouped:
    """Return ``cohort`` grouped as a program says: ids, a mask over participants or scans, a cohort, a list.

    Each of the two may be given in its own way; a ``Path`` is a list's file or folder.

    Raises:
        ProblemsError: with ids that are unknown or on both sides, unless ``skip_bad``.
        CohortError: if there are no members or nobody else, or a mask does not fit.
    """
    people = cohort.covariates
    rest = None if non_members is None else _listed(people, non_members, "non_members")
    return group(cohort, _listed(people, members, "members"), rest, skip_bad=skip_bad)


def _listed(people: Covariates, given: Who, name: str) -> Listed:
    return read_listed(given) if isinstance(given, Path) else listed_ids(_ids(people, given, name), name)


def assign(
    participants: Sequence[str],
    members: Listed,
    non_members: Listed | None = None,
    *,
    unusable: Collection[str] = frozenset(),
) -> Assigned:
    """Return the state of each participant by what lists say, and everything that is wrong with the lists.

    A list with a column ``member`` says all by itself; beside ``non_members`` its column is not read. With
    ``members`` alone everyone else is a non-member. Who is in both lists is excluded, and a problem.

    Args:
        participants: everyone whose scans can be used.
        members: who trained the model.
        non_members: whom the model has never seen; everybody else is then excluded.
        unusable: participants who exist but whose scans cannot be used: they are not unknown.
    """
    lists = [members] if non_members is None else [members, non_members]
    problems = [problem for listed in lists for problem in listed.problems]
    known = {*participants, *unusable}
    problems += [problem for listed in lists for problem in _unknown(listed, known)]
    if non_members is None and members.states is not None:
        states = [members.states.get(name, EXCLUDED) for name in participants]
        return Assigned(np.array(states, np.int8), tuple(problems), ())
    both = set() if non_members is None else set(members.lines) & set(non_members.lines)
    for name in sorted(both):
        where = f"{members.lines[name]} and {'' if non_members is None else non_members.lines[name]}"
        what = f"name sub-{name} on both sides"
        problems.append(Problem(where, what, "Membership is a person's: remove one of them", name))
    others = set(participants) if non_members is None else set(non_members.lines)
    states = [
        EXCLUDED
        if name in both
        else MEMBER
        if name in members.lines
        else NON_MEMBER
        if name in others
        else EXCLUDED
        for name in participants
    ]
    return Assigned(np.array(states, np.int8), tuple(problems), _notes(states, members, non_members, both))


def _notes(
    states: Sequence[int], members: Listed, non_members: Listed | None, both: Collection[str]
) -> tuple[str, ...]:
    if non_members is None:
        n = states.count(NON_MEMBER)
        return (
            f"{n} participants whom {members.place} does not name count as non-members; name the non-members "
            "if some of them were used for validation.",
        )
    neither = states.count(EXCLUDED) - len(both)
    return (f"{neither} participants of the cohort are in neither list and left out.",) if neither > 0 else ()


def _unknown(listed: Listed, known: Collection[str]) -> list[Problem]:
    """Return a problem for each id that nobody bears; with very many the last one counts the others."""
    strangers = [name for name in listed.lines if name not in known]
    if listed.states is not None:
        strangers = [name for name in strangers if listed.states.get(name) != EXCLUDED]
    names = _Names(known) if strangers else None
    problems = []
    for name in strangers[:SHOWN]:
        near = names.near(name) if names else []
        meant = " or ".join(f"sub-{one}" for one in near)
        remedy = f"Write {meant} if that is meant" if near else "Correct the id, or add the scans"
        problems.append(
            Problem(listed.lines[name], f"names sub-{name}, who is not in the cohort", remedy, name)
        )
    if len(strangers) > SHOWN:
        rest = len(strangers) - SHOWN
        what = f"names {rest:,} more people who are not in the cohort ({len(strangers):,} of {len(listed):,})"
        problems.append(Problem(listed.place, what, "Check that list and cohort belong together"))
    return problems


class _Names:
    """The known ids, by what is left of them without prefixes, zeros and punctuation."""

    def __init__(self, known: Collection[str]) -> None:
        self._known = sorted(known)
        self._plain: dict[str, list[str]] = {}
        for name in self._known:
            self._plain.setdefault(_plain(name), []).append(name)

    def near(self, name: str) -> list[str]:
        """Return at most two ids that may be meant by ``name``."""
        same = self._plain.get(_plain(name))
        return (same or difflib.get_close_matches(name, self._known, n=2, cutoff=0.75))[:2]


def _plain(name: str) -> str:
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", letters.removeprefix("sub"))


def _column_of(path: Path) -> Listed:
    """Return the states in a cohort's own table."""
    if path.is_dir():
        path = participants_table(path)
    return listed_column(path, needs_member=True)


def _of_folders(members: Path, others: Path, load: CohortLoader, *, skip_bad: bool) -> Grouped:
    cohorts = [load(folder, skip_bad=True) for folder in (members, others)]
    lists = [
        listed_ids(cohort.covariates.participants, folder.name or str(folder))
        for cohort, folder in zip(cohorts, (members, others), strict=True)
    ]
    both = set(lists[0].lines) & set(lists[1].lines)
    problems = [problem for cohort in cohorts for problem in cohort.problems]
    problems += [
        Problem(
            f"{lists[0].place} and {lists[1].place}",
            f"both hold scans of sub-{name}",
            "Membership is a person's: keep one, or rename whoever is somebody else",
            name,
        )
        for name in sorted(both)
    ]
    _refuse(f"The folders {lists[0].place} and {lists[1].place}", problems, skip_bad=skip_bad)
    kept = [_without(cohort, both) for cohort in cohorts]
    cohort = join_cohorts(kept, one_study=True)
    found = assign(cohort.covariates.participants, *(listed_ids(c.covariates.participants, "") for c in kept))
    note = (f"{len(both)} participants with scans in both folders are left out.",) if both else ()
    return _grouped(cohort, found._replace(notes=note), lists[0].place)


def _without(cohort: Cohort, participants: Collection[str]) -> Cohort:
    keep = [scan.participant not in participants for scan in cohort.covariates.scans]
    return cohort if all(keep) else cohort.select(np.array(keep))


def _refuse(name: str, problems: Sequence[Problem], *, skip_bad: bool) -> None:
    if problems and not skip_bad:
        raise ProblemsError(f"{name} cannot be used as given", one_of_many(problems), SKIP_HINT)


def _grouped(cohort: Cohort, found: Assigned, place: str, *, members_only: bool = False) -> Grouped:
    result = Grouped(cohort, found.states, found.notes)
    states, left_out = result.scan_states.tolist(), len(found.problems)
    check_groups(place, states, left_out=left_out, members_only=members_only)
    return result


def _ids(people: Covariates, given: object, name: str) -> Iterable[str]:
    """Return the ids that a program's list, mask or cohort means."""
    if isinstance(given, Cohort):
        return given.covariates.participants
    array = np.asarray(given)
    if array.dtype != np.bool_:
        return [str(one) for one in array.reshape(-1)]
    if array.shape == (len(people.participants),):
        return [one for one, wanted in zip(people.participants, array, strict=True) if wanted]
    if array.shape == (len(people),):
        chosen = {scan.participant for scan, wanted in zip(people.scans, array, strict=True) if wanted}
        left = {scan.participant for scan, wanted in zip(people.scans, array, strict=True) if not wanted}
        if not chosen & left:
            return sorted(chosen)
        raise CohortError(
            f"{name} needs a person's scans all on one side, got {len(chosen & left)} people with scans on "
            "both. Membership is a person's: give ids, or a mask over participants."
        )
    raise CohortError(
        f"{name} needs a mask over {len(people.participants)} participants or {len(people)} scans, got shape "
        f"{array.shape}. Give a mask that fits, or ids."
    )


def _described(members: Path | None, others: Path | None) -> str:
    given = [
        f"{option} {'folder' if path.is_dir() else 'file'}"
        for option, path in (("--members", members), ("--non-members", others))
        if path is not None
    ]
    return " and ".join(given) or "nothing"
