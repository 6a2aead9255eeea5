"""Comparing like with like: member and non-member participants in pairs of one age, sex and site."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from privoxel.arrays import BoolArray, IntArray
from privoxel.cohort.base import Covariates
from privoxel.cohort.matching import age_matched
from privoxel.cohort.splits import age_of_participants
from privoxel.errors import ConfigError

MATCHABLE = ("age", "sex", "site")
CALIPER = 1.0


class Matched(NamedTuple):
    """Which scans belong to matched pairs, how many pairs there are, and who was left without a partner."""

    kept: BoolArray
    pairs: int
    members_left: int
    non_members_left: int


def parse_match(text: str) -> tuple[str, ...]:
    """Return what to match on from a comma-separated list.

    >>> parse_match("age, sex")
    ('age', 'sex')

    Raises:
        ConfigError: if something else than age, sex and site is named.
    """
    names = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in MATCHABLE]
    if unknown or not names:
        raise ConfigError(
            f"--match needs a list of {', '.join(MATCHABLE)}, got {', '.join(unknown) or 'nothing'}. "
            "Write --match age,sex,site or a part of it."
        )
    return names


def match_groups(
    covariates: Covariates,
    members: BoolArray,
    on: Sequence[str],
    rng: np.random.Generator,
    *,
    caliper: float = CALIPER,
) -> Matched:
    """Return the largest found set of pairs, one member and one non-member, that are alike in ``on``.

    Sex and site are equal within a pair, ages differ by at most ``caliper`` years. The smaller group of each
    stratum chooses, in random order, the nearest that is left (``cohort/matching.py``). Participants
    count, with their mean age; sex and site are those of their first scan.

    Raises:
        ConfigError: if nobody's sex or site is known though it is to be matched.
    """
    for name in ("sex", "site"):
        if name in on and not np.any(getattr(covariates, name) != ""):
            raise ConfigError(
                f"--match {','.join(on)} needs a column {name!r} with values, got none. Add it, or leave "
                f"{name} out of --match."
            )
    codes = covariates.participant_index
    first = np.unique(codes, return_index=True)[1]
    ages, is_member = age_of_participants(covariates), members[first]
    labels = [getattr(covariates, name)[first] for name in ("sex", "site") if name in on]
    strata = _strata(labels, len(first))
    kept = np.zeros(len(first), dtype=np.bool_)
    for stratum in np.unique(strata):
        groups = [np.flatnonzero((strata == stratum) & (is_member == state)) for state in (True, False)]
        smaller, larger = sorted(groups, key=len)
        if "age" not in on:
            chosen = [rng.permutation(group)[: len(smaller)] for group in (smaller, larger)]
        else:
            match = age_matched(ages[larger], ages[smaller], rng, caliper=caliper)
            chosen = [smaller[match.reference], larger[match.unseen]]
        kept[np.concatenate(chosen)] = True
    return Matched(
        kept[codes],
        int((kept & is_member).sum()),
        int((~kept & is_member).sum()),
        int((~kept & ~is_member).sum()),
    )


def _strata(labels: Sequence[npt.NDArray[np.str_]], size: int) -> IntArray:
    """Return a code for each combination of labels."""
    codes = np.zeros(size, dtype=np.int64)
    for values in labels:
        own = np.unique(values, return_inverse=True)[1].astype(np.int64)
        codes = codes * (int(own.max(initial=0)) + 1) + own
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)
