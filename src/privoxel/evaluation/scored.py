"""The evaluation's inputs and its unit of output.

``Evaluated`` is what one attack said about one target, over repeats of the adversary's draw;
every metric is a function of it and returns an ``Estimate`` with its interval.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from privoxel.arrays import BoolArray, FloatArray, IntArray


class Estimate(NamedTuple):
    """A number with its interval; fractions are 0-1.

    ``low`` and ``high`` bound the central ``level`` interval built by ``method``; ``sd_repeats`` is the
    spread over repeats of the attack, a column of its own. A metric that the design cannot support has
    ``value`` None and says why in ``reason``.
    """

    value: float | None
    low: float | None
    high: float | None
    level: float = 0.95
    method: str = ""
    sd_repeats: float | None = None
    reason: str = ""


@final
@dataclass(frozen=True)
class Evaluated:
    """Scores of one attack on one target.

    ``scores``: repeats × scans, NaN where a scan was not evaluated in that repeat (leaked or set aside).
    ``thresholds``: one per repeat, set by the attack without the evaluated membership; a score above it is
    called a member; NaN where there is none, so that only rankings are judged. ``members``: scans.
    ``participants``: an integer code per scan (rows of one person, or of one family, share it); it is the
    unit of every interval.
    """

    scores: FloatArray
    thresholds: FloatArray
    members: BoolArray
    participants: IntArray

    def __post_init__(self) -> None:
        repeats, scans = self.scores.shape
        if self.thresholds.shape != (repeats,):
            raise ValueError(f"thresholds needs {repeats} values, got shape {self.thresholds.shape}.")
        if self.members.shape != (scans,) or self.participants.shape != (scans,):
            raise ValueError(
                f"members and participants need {scans} values, got {self.members.shape} and "
                f"{self.participants.shape}."
            )
        for row, score in enumerate(self.scores):
            seen = self.members[~np.isnan(score)]
            if seen.all() or not seen.any():
                raise ValueError(
                    f"repeat {row} needs evaluated members and non-members, got {int(seen.sum())} and "
                    f"{int((~seen).sum())}."
                )

    @property
    def n_members(self) -> int:
        """Distinct member participants evaluated at least once."""
        return self._count(self.members)

    @property
    def n_non_members(self) -> int:
        """Distinct non-member participants evaluated at least once."""
        return self._count(~self.members)

    def _count(self, group: BoolArray) -> int:
        evaluated = ~np.isnan(self.scores).all(axis=0)
        return len(np.unique(self.participants[group & evaluated]))
