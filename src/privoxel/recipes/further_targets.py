"""True values of a network's further targets: whether they are there, and whom they are missing for.

A loss without one of its terms is another loss. Where a value is missing more often in one group than in the
other, an attack on gradients could tell the groups apart by that alone, so such an audit is refused.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from privoxel.arrays import BoolArray
from privoxel.cohort.memberships import Grouped
from privoxel.cohort.splits import MEMBER, NON_MEMBER
from privoxel.errors import Problem

LARGEST_DIFFERENCE = 0.05
"""Of the shares without a value: told apart by it alone with AUC 0.525."""
LEVEL = 0.05


class Missing(NamedTuple):
    """Participants without a true value of ``column`` for at least one of their scans, in each group."""

    column: str
    members: int
    of_members: int
    others: int
    of_others: int

    @property
    def difference(self) -> float:
        """Difference of the shares."""
        return abs(self.members / self.of_members - self.others / self.of_others)

    @property
    def tells_groups_apart(self) -> bool:
        """Whether the shares differ by more than is tolerated, and than chance (Fisher's exact test)."""
        from scipy.stats import fisher_exact  # noqa: PLC0415 - only networks of several targets need it

        rows = [
            [self.members, self.of_members - self.members],
            [self.others, self.of_others - self.others],
        ]
        return self.difference > LARGEST_DIFFERENCE and float(fisher_exact(rows).pvalue) < LEVEL

    @property
    def counted(self) -> str:
        """Return the counts in words."""
        return f"{self.members} of {self.of_members} members and {self.others} of {self.of_others} others"


def target_problems(grouped: Grouped, columns: Sequence[str]) -> list[Problem]:
    """Return what keeps a loss that needs ``columns`` from being computed on a cohort, or from being fair."""
    people = grouped.cohort.covariates
    problems = []
    for column in columns:
        if column not in people.columns:
            there = ", ".join(people.columns) or "none"
            what = f"{grouped.cohort.name} has no column {column!r} of true values (it has {there})"
            remedy = (
                f"Load the cohort by load_cohort(…, columns=({column!r},)), or add the values by "
                f"cohort.with_columns({{{column!r}: values}})"
            )
            problems.append(Problem("targets", what, remedy))
        elif not np.isfinite(people.columns[column]).any():
            what = f"the column {column!r} holds no number"
            problems.append(Problem("targets", what, "Fill it in, or leave this target out of the head"))
        elif (missing := missing_values(grouped, column)).tells_groups_apart:
            auc = 0.5 + missing.difference / 2
            what = (
                f"{column!r} is missing for {missing.counted}, which alone tells them apart (AUC {auc:.2f}), "
                "and a loss without it has other gradients"
            )
            remedy = "Leave out whom it is missing for, in both groups, or leave this target out of the head"
            problems.append(Problem("targets", what, remedy))
    return problems


def missing_notes(grouped: Grouped, columns: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence for each column in which true values of judged participants are missing."""
    found = [missing_values(grouped, column) for column in columns]
    return tuple(
        f"The true {one.column} is missing for {one.counted}; the loss of such a scan is without that term."
        for one in found
        if one.members or one.others
    )


def missing_values(grouped: Grouped, column: str) -> Missing:
    """Return for whom values of ``column`` are missing."""
    people = grouped.cohort.covariates
    lacking = np.zeros(len(people.participants), dtype=np.bool_)
    lacking[people.participant_index[~np.isfinite(people.columns[column])]] = True
    member, other = (np.asarray(grouped.states == state) for state in (MEMBER, NON_MEMBER))
    return Missing(column, *_count(lacking, member), *_count(lacking, other))


def _count(lacking: BoolArray, group: BoolArray) -> tuple[int, int]:
    return int((lacking & group).sum()), int(group.sum())
