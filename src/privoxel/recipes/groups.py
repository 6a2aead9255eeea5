"""Members and non-members as groups of people: who is compared, how they differ, what matching did."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from privoxel.arrays import BoolArray
from privoxel.cohort.base import Cohort, Covariates
from privoxel.cohort.splits import EXCLUDED, MEMBER, NON_MEMBER, Design, training_scans
from privoxel.config import RunConfig
from privoxel.errors import ConfigError
from privoxel.evaluation.balance import categorical_difference, standardised_difference
from privoxel.evaluation.results import Results
from privoxel.recipes.adversaries import attack_streams, protocol_draws
from privoxel.recipes.matched import match_groups
from privoxel.seeding import Streams

FEWEST_WITH_OTHER_SCANS = 2


class Compared(NamedTuple):
    """Who is compared.

    ``cohort`` holds the judged scans and ``members`` says which of them are members'. ``excluded`` counts the
    participants left out because of their state, ``unmatched`` those without a partner, ``pairs`` the matched
    pairs; ``before`` holds the differences before matching. The last three are None without matching.
    """

    cohort: Cohort
    members: BoolArray
    excluded: int
    unmatched: int | None = None
    pairs: int | None = None
    before: Mapping[str, float | None] | None = None

    @property
    def design(self) -> Design:
        """The participants of either group, in the cohort's order."""
        people = self.cohort.covariates
        inside = dict(zip((scan.participant for scan in people.scans), self.members, strict=True))
        return Design(
            tuple(name for name in people.participants if inside[name]),
            tuple(name for name in people.participants if not inside[name]),
        )


def compare_groups(
    cohort: Cohort, states: Mapping[str, int], match: Sequence[str], *, caliper: float, seed: int
) -> Compared:
    """Return the scans of members and non-members; with ``match`` only those of matched pairs.

    ``states`` gives participants their state (``cohort/splits.py``); who is not in it is left out.

    Raises:
        ConfigError: if there are no members, no non-members, or what is to be matched is not known.
    """
    people = cohort.covariates
    state = np.array([states.get(scan.participant, EXCLUDED) for scan in people.scans], dtype=np.int8)
    for value, group in ((MEMBER, "member"), (NON_MEMBER, "non-member")):
        if not (state == value).any():
            raise ConfigError(
                f"An audit needs scans of at least one {group}, got none among the {len(people)} scans of "
                f"{cohort.name}. Check that the ids of members and non-members are those of the cohort."
            )
    excluded = len(people.select(state == EXCLUDED).participants)
    judged, members = cohort.select(state != EXCLUDED), (state == MEMBER)[state != EXCLUDED]
    if not match:
        return Compared(judged, members, excluded)
    rng = Streams(seed).generator("match")
    matched = match_groups(judged.covariates, members, match, rng, caliper=caliper)
    return Compared(
        judged.select(matched.kept),
        members[matched.kept],
        excluded,
        matched.members_left + matched.non_members_left,
        matched.pairs,
        differences(judged.covariates, members),
    )


def check_sizes(compared: Compared, config: RunConfig) -> None:
    """Raise ``ConfigError`` if there are too few participants for the protocol, or with other sessions."""
    people, sessions = compared.cohort.covariates, config.split.train_sessions
    trained = training_scans(people, sessions)
    codes = people.participant_index
    if sessions is not None:
        with_others = [len(set(codes[~trained & group])) for group in (compared.members, ~compared.members)]
        if min(with_others) < FEWEST_WITH_OTHER_SCANS:
            raise ConfigError(
                f"An audit with other scans of the same people needs {FEWEST_WITH_OTHER_SCANS} members and "
                f"as many non-members with more than {sessions} sessions, got {with_others[0]} and "
                f"{with_others[1]}. Add their sessions, or drop --train-sessions."
            )
    states = np.where(compared.members, MEMBER, NON_MEMBER).astype(np.int8)
    try:
        protocol_draws(
            states[trained],
            codes[trained],
            config.attacks,
            attack_streams(config, 1),
            coin=config.split.coin,
        )
    except ConfigError as error:
        if compared.pairs is None:
            raise
        raise ConfigError(
            f"{error} Matching left {compared.pairs} pairs: widen --caliper, or match on less."
        ) from error


def differences(people: Covariates, members: BoolArray) -> dict[str, float | None]:
    """Return the standardised differences of age, sex and site between members and non-members.

    Participants count once, with their mean age; sex and site are left out where they are not known.
    """
    first = np.unique(people.participant_index, return_index=True)[1]
    ages = np.bincount(people.participant_index, people.age) / np.bincount(people.participant_index)
    found: dict[str, float | None] = {"age": _rounded(standardised_difference(ages, members[first]))}
    for name in ("sex", "site"):
        labels = getattr(people, name)[first]
        if np.any(labels != ""):
            found[name] = _rounded(categorical_difference(labels, members[first]))
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def describe_groups(compared: Compared, match: Sequence[str]) -> dict[str, Any]:
    """Return what a report says of the groups: what they were matched on, and how they differ."""
    described: dict[str, Any] = {}
    if compared.unmatched is not None:
        described["matched_on"] = ", ".join(match)
        described["without_a_partner"] = compared.unmatched
        described["differences_before_matching"] = dict(compared.before or {})
    described["standardised_differences"] = differences(compared.cohort.covariates, compared.members)
    return described


def advice_on_groups(results: Results, match: Sequence[str]) -> str:
    """Return what to do where the groups differ as people, "" where they do not or are matched already."""
    (target,) = results.targets
    found = {one.name: one.metrics["auc"].low for one in target.controls}
    lows = [found.get(name) for name in ("covariates_only", "covariates_best")]
    if match or not any(low is not None and low > 0.5 for low in lows):
        return ""
    return (
        "members and non-members differ in age, sex or site; --match age,sex,site compares only people who "
        "have a partner in the other group"
    )
