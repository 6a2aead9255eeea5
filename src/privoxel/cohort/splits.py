"""Who is a member: designs drawn by participant, so that all scans of a person stay together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, final

import numpy as np
import numpy.typing as npt

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.cohort.base import Cohort, Covariates
from privoxel.cohort.names import natural_order
from privoxel.errors import ConfigError

MEMBER = 1
NON_MEMBER = 0
EXCLUDED = -1

Int8Array = npt.NDArray[np.int8]
Size = int | float
Sessions = int | tuple[str, ...] | None
"""Which sessions train: so many of each participant, the first; those of these labels; or all (None)."""
SOME = 10
"""Labels of sessions that an error lists at most."""
STRATUM = 8
"""Participants of neighbouring ages among whom a stratified draw is random."""


@final
@dataclass(frozen=True)
class Design:
    """Disjoint groups of participants for one audited model.

    ``members`` train it; ``non_members`` are the unseen participants it is compared on; ``others`` train the
    target of the null control, which has seen neither; ``validation`` draws the curve and is excluded. Nobody
    trains on ``population``, of whom an adversary may know that. ``canaries`` have false ages; ``inserted``
    are those of them that train too.
    """

    members: tuple[str, ...]
    non_members: tuple[str, ...]
    others: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    population: tuple[str, ...] = ()
    canaries: tuple[str, ...] = ()
    inserted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        everyone = [
            *(*self.members, *self.non_members, *self.others),
            *(*self.validation, *self.population, *self.canaries),
        ]
        twice = len(everyone) - len(set(everyone))
        if twice:
            raise ConfigError(
                f"A design needs disjoint groups of participants, got {twice} named twice. Name each once."
            )
        if not set(self.inserted) <= set(self.canaries):
            raise ConfigError("A design inserts canaries alone, got other participants. Name them canaries.")

    @property
    def judged(self) -> tuple[str, ...]:
        """Members and non-members."""
        return (*self.members, *self.non_members)

    @property
    def observed(self) -> tuple[str, ...]:
        """Everyone on whom the target is observed: those judged, the population and the canaries."""
        return (*self.judged, *self.population, *self.canaries)


def draw_design(  # noqa: PLR0913 - the groups by name say what the call does
    covariates: Covariates,
    rng: np.random.Generator,
    *,
    members: Size,
    non_members: Size,
    others: Size = 0,
    validation: Size = 0,
    population: Size = 0,
    stratify: Literal["age"] | None = None,
    coin: bool = False,
) -> Design:
    """Return a random design over the participants of ``covariates``.

    Args:
        covariates: the cohort's scans; each participant is drawn once, with all scans.
        rng: where the draw comes from.
        members: how many participants (int), or which share of all of them (float, 0-1).
        non_members: the same, for the unseen participants.
        others: the same, for the null control's training set.
        validation: the same, for the validation set.
        population: the same, for those whom nobody trains on and the adversary knows.
        stratify: "age" spreads every group evenly over the ages, so that members and non-members match.
        coin: each of the members and non-members is then made one or the other by a fair coin of its own, so
            that only their sum is as asked for.

    Raises:
        ConfigError: if there are too few participants, or no member or non-member is asked for or drawn.
    """
    people = covariates.participants
    asked = {"members": members, "non_members": non_members, "others": others, "validation": validation}
    if population:  # a group more would change the draws of designs without one
        asked["population"] = population
    sizes = _counts(asked, len(people))
    if stratify is None:
        order = rng.permutation(len(people))
        labels = np.repeat(np.arange(len(sizes) + 1), [*sizes, len(people) - sum(sizes)])
    else:
        order = _order_by_age(age_of_participants(covariates), rng)
        labels = spread_evenly([*sizes, len(people) - sum(sizes)], rng)
    rows = [np.sort(order[labels == group]) for group in range(len(sizes))]
    if coin:
        pool = np.sort(np.concatenate(rows[:2]))
        rows[:2] = tossed(pool, rng)
        if not (len(rows[0]) and len(rows[1])):
            raise ConfigError(
                f"A design by coins needs members and non-members, got {len(rows[0])} and {len(rows[1])}. "
                "Give more participants, or another seed."
            )
    return Design(*(tuple(people[i] for i in group) for group in rows))


def tossed(pool: IntArray, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Return those of ``pool`` for whom a fair coin of their own falls on heads, and the rest."""
    heads = rng.random(len(pool)) < 0.5
    return pool[heads], pool[~heads]


def _counts(asked: Mapping[str, Size], available: int) -> list[int]:
    """Return the group sizes; shares are rounded cumulatively, so that shares of 1 in all take everyone."""
    counts, share, given = [], 0.0, 0
    for name, size in asked.items():
        if isinstance(size, bool) or not np.isfinite(size) or size < 0:
            raise ConfigError(f"A design needs a count or a share for {name}, got {size!r}. Give 0 or more.")
        if isinstance(size, Integral):
            counts.append(int(size))
            continue
        share += float(size)
        total = int(np.floor(share * available + 0.5 + 1e-9))
        counts.append(total - given)
        given = total
    wanted = ", ".join(f"{name} {size}" for name, size in asked.items() if size)
    if share > 1 + 1e-9 or sum(counts) > available:
        raise ConfigError(
            f"A design needs at most {available} participants, got {wanted or 0}. Ask for fewer."
        )
    if min(counts[:2]) < 1:
        raise ConfigError(
            f"A design needs at least one member and one non-member, got {wanted or 0} of {available} "
            "participants. Ask for more, or give more participants."
        )
    return counts


def age_of_participants(covariates: Covariates) -> FloatArray:
    """Return the mean age in years over the scans of each participant."""
    codes = covariates.participant_index
    means: FloatArray = np.bincount(codes, weights=covariates.age) / np.bincount(codes)
    return means


def _order_by_age(ages: FloatArray, rng: np.random.Generator) -> IntArray:
    """Return the participants by age, in random order within strata of neighbours."""
    by_age = np.lexsort((rng.random(ages.size), ages))
    strata = [by_age[start : start + STRATUM] for start in range(0, ages.size, STRATUM)]
    return np.concatenate([rng.permutation(stratum) for stratum in strata])


def spread_evenly(sizes: Sequence[int], rng: np.random.Generator) -> IntArray:
    """Return a label per place such that the places of each label lie evenly from first to last."""
    position = np.concatenate([(np.arange(size) + rng.random()) / max(size, 1) for size in sizes])
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return labels[np.argsort(position, kind="stable")]


def session_numbers(covariates: Covariates) -> IntArray:
    """Return for each scan which of its participant's sessions it is of, from 0, in the order of labels.

    Numbers in labels count as numbers: session 2 is before session 10, whatever the order of the scans.
    Several reconstructions of one session share its number.
    """
    labels: dict[str, set[str]] = {}
    for scan in covariates.scans:
        labels.setdefault(scan.participant, set()).add(scan.session)
    places = {
        (who, label): place
        for who, found in labels.items()
        for place, label in enumerate(sorted(found, key=natural_order))
    }
    return np.array([places[scan.participant, scan.session] for scan in covariates.scans], dtype=np.int64)


def training_scans(covariates: Covariates, sessions: Sessions) -> BoolArray:
    """Return a mask of the scans of the ``sessions`` that train.

    These are what a model may be trained on; whether it is, depends on the participant's membership.
    """
    if sessions is None:
        return np.ones(len(covariates), dtype=np.bool_)
    if isinstance(sessions, int):
        return session_numbers(covariates) < sessions
    return np.array([scan.session in sessions for scan in covariates.scans], dtype=np.bool_)


def training_rows(cohort: Cohort, participants: Sequence[str], sessions: Sessions) -> IntArray:
    """Return the rows of the scans that train a model on ``participants``, in cohort order."""
    rows = cohort.rows_of(participants)
    return rows[training_scans(cohort.covariates, sessions)[rows]]


def people_by_session(covariates: Covariates) -> dict[str, int]:
    """Return how many participants have a scan of each session, in the order of the labels."""
    found: dict[str, set[str]] = {}
    for scan in covariates.scans:
        found.setdefault(scan.session, set()).add(scan.participant)
    return {label: len(found[label]) for label in sorted(found, key=natural_order)}


def without_training_scans(covariates: Covariates, sessions: Sessions) -> tuple[str, ...]:
    """Return the participants who have no scan of the ``sessions`` that train.

    Raises:
        ConfigError: if nobody has a scan of one of them.
    """
    if sessions is None or isinstance(sessions, int):
        return ()
    known = list(people_by_session(covariates))
    unknown = [label for label in sessions if label not in known]
    if unknown:
        some = known[:SOME]
        raise ConfigError(
            f"Sessions that were trained on need scans, got none of {', '.join(map(repr, unknown))}. Name "
            f"sessions that there are: {', '.join(map(repr, some))}{', …' if len(known) > SOME else ''}."
        )
    trained = set(covariates.select(training_scans(covariates, sessions)).participants)
    return tuple(who for who in covariates.participants if who not in trained)


def membership_of(design: Design, covariates: Covariates) -> Int8Array:
    """Return the membership of each scan: MEMBER, NON_MEMBER, or EXCLUDED for everyone else.

    Raises:
        ConfigError: if no scan is of a member, or none of a non-member although there are some.
    """
    state = dict.fromkeys(design.members, MEMBER) | dict.fromkeys(design.non_members, NON_MEMBER)
    membership = np.array([state.get(scan.participant, EXCLUDED) for scan in covariates.scans], dtype=np.int8)
    for value, group in ((MEMBER, "member"), (NON_MEMBER, "non-member")):
        is_needed = value == MEMBER or design.non_members
        if is_needed and not (membership == value).any():
            raise ConfigError(
                f"An audit needs scans of at least one {group}, got none among {len(covariates)} scans. "
                "Check that the ids of the design are those of the cohort."
            )
    return membership
