"""Which scans an attacker has leaked to it, and which it is evaluated on: always whole participants.

A reproduction leaks 68 % of the smaller group per class and evaluates 32 %, as the paper does
(1,500 and 694 of 2,194; Gupta et al. 2021, 3.2). An audit leaks at most 100, at most a quarter, and
cross-fits so that everyone is evaluated by attackers who were never told about them.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from privoxel.arrays import BoolArray, IntArray
from privoxel.errors import ConfigError
from privoxel.signals.table import Membership

PAPER_LEAK = 0.68
AUDIT_FOLDS, REPRODUCTION_REPEATS = 4, 5
AUDIT_CAP = 100


class Draw(NamedTuple):
    """One attacker: the scans leaked to it and the scans it is evaluated on (masks over all scans)."""

    leaked: BoolArray
    evaluated: BoolArray


class _Classes(NamedTuple):
    """Participants' codes per scan, and the distinct codes of members and non-members."""

    codes: IntArray
    members: IntArray
    non_members: IntArray

    def scans_of(self, *participants: IntArray) -> BoolArray:
        return np.isin(self.codes, np.concatenate(participants))


def reproduction_draws(
    membership: ArrayLike,
    participants: ArrayLike,
    *,
    repeats: int,
    rng: np.random.Generator,
    leak: float = PAPER_LEAK,
) -> tuple[Draw, ...]:
    """Return ``repeats`` balanced draws: ``leak`` of the smaller group per class leaked, the rest evaluated.

    Args:
        membership: 1 member, 0 non-member, -1 excluded, per scan.
        participants: a code per scan, the same for all scans of a participant.
        repeats: how many draws; each is new, from the larger group too.
        rng: where the draws come from.
        leak: share (0-1) of the smaller group that is leaked.

    Raises:
        ConfigError: if the smaller group cannot be divided in two.
    """
    classes = _classes(membership, participants)
    size = min(classes.members.size, classes.non_members.size)
    n_leaked = round(leak * size)
    if not 0 < n_leaked < size:
        raise ConfigError(
            f"A leak of {leak:g} needs at least 2 members and 2 non-members, got {classes.members.size} and "
            f"{classes.non_members.size}. Give more participants, or a share between 0 and 1."
        )
    return tuple(_balanced(classes, size, n_leaked, rng) for _ in range(repeats))


def _balanced(classes: _Classes, size: int, n_leaked: int, rng: np.random.Generator) -> Draw:
    drawn = [rng.permutation(group)[:size] for group in (classes.members, classes.non_members)]
    return Draw(
        leaked=classes.scans_of(*(group[:n_leaked] for group in drawn)),
        evaluated=classes.scans_of(*(group[n_leaked:] for group in drawn)),
    )


def audit_draws(
    membership: ArrayLike,
    participants: ArrayLike,
    *,
    rng: np.random.Generator,
    folds: int = AUDIT_FOLDS,
    cap: int = AUDIT_CAP,
    coin: bool = False,
) -> tuple[Draw, ...]:
    """Return one draw per fold: participants of the fold leaked, everyone not leaked evaluated.

    As many members as non-members are leaked: at most ``cap``, at most 1/``folds`` of the smaller group. No
    participant is leaked twice, so each is evaluated by at least ``folds`` - 1 attackers. With ``coin`` as
    many are leaked, but whatever their membership: what coins decided of those left stays as it was tossed.

    Raises:
        ConfigError: if there are fewer than 2 participants per class and fold.
    """
    classes = _classes(membership, participants)
    size = min(classes.members.size, classes.non_members.size)
    n_leaked = min(cap, size // max(folds, 1))
    if folds < 2 or n_leaked < 2:
        raise ConfigError(
            f"An audit with {folds} attackers needs at least {2 * max(folds, 2)} members and as many "
            f"non-members (2 leaked to each), got {classes.members.size} and {classes.non_members.size}. "
            "Give more participants, or fewer attackers (at least 2)."
        )
    everyone = classes.scans_of(classes.members, classes.non_members)
    if coin:
        return _blind_draws(classes, everyone, rng, folds, cap)
    members, non_members = (rng.permutation(group) for group in (classes.members, classes.non_members))
    draws = []
    for fold in range(folds):
        part = slice(fold * n_leaked, (fold + 1) * n_leaked)
        leaked = classes.scans_of(members[part], non_members[part])
        draws.append(Draw(leaked, everyone & ~leaked))
    return tuple(draws)


def _blind_draws(
    classes: _Classes, everyone: BoolArray, rng: np.random.Generator, folds: int, cap: int
) -> tuple[Draw, ...]:
    """Return the draws of an audit in which who is leaked, and how many, follows from no membership."""
    people = rng.permutation(np.sort(np.concatenate([classes.members, classes.non_members])))
    n_leaked = min(2 * cap, len(people) // folds)
    parts = [people[fold * n_leaked : (fold + 1) * n_leaked] for fold in range(folds)]
    fewest = min(int(np.isin(part, group).sum()) for part in parts for group in classes[1:])
    if fewest < 2:
        raise ConfigError(
            f"An audit with {folds} attackers and members by coins needs 2 members and 2 non-members leaked "
            f"to each, got {fewest} of one. Give more participants, or fewer attackers (at least 2)."
        )
    leaked = [classes.scans_of(part) for part in parts]
    return tuple(Draw(each, everyone & ~each) for each in leaked)


def pseudo_members(
    membership: ArrayLike, participants: ArrayLike, rng: np.random.Generator
) -> npt.NDArray[np.int8]:
    """Return a made-up membership for the null control: half of the non-members called members.

    Nobody it names was trained on, so an attack that tells the halves apart does so by chance. Members and
    excluded scans are excluded.

    Raises:
        ConfigError: if there are fewer than 2 non-members.
    """
    classes = _classes(membership, participants)
    if classes.non_members.size < 2:
        raise ConfigError(
            f"A null control needs at least 2 non-members, got {classes.non_members.size}. Give more of them."
        )
    drawn = rng.permutation(classes.non_members)
    half = drawn.size // 2
    out = np.full(classes.codes.shape, Membership.EXCLUDED, dtype=np.int8)
    out[classes.scans_of(drawn[:half])] = Membership.MEMBER
    out[classes.scans_of(drawn[half:])] = Membership.NON_MEMBER
    return out


def _classes(membership: ArrayLike, participants: ArrayLike) -> _Classes:
    state = np.asarray(membership)
    codes = np.unique(np.asarray(participants), return_inverse=True)[1].astype(np.int64)
    if state.ndim != 1 or state.shape != codes.shape:
        raise ValueError(
            f"Draws need one membership and one participant a scan, got {state.shape} and {codes.shape}."
        )
    if not np.isin(state, list(Membership)).all():
        raise ValueError(f"Draws need memberships of 1, 0 or -1, got {np.unique(state)[:5]}.")
    members, non_members, excluded = (
        np.unique(codes[state == value])
        for value in (Membership.MEMBER, Membership.NON_MEMBER, Membership.EXCLUDED)
    )
    mixed = members.size + non_members.size + excluded.size - np.unique(codes).size
    if mixed:
        raise ValueError(
            f"Draws need one membership a participant, got {mixed} with several. Split by participant."
        )
    return _Classes(codes, members, non_members)
