"""A cohort divided among the learners of a federation, and those whom no learner has seen.

Everything is by participant: all scans of a person belong to one learner. ``environments`` draws partitions
as Gupta et al. (2021, A.2) and others did; this module is what a partition is, and the unseen set.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.cohort.base import Cohort, Covariates
from privoxel.cohort.splits import age_of_participants
from privoxel.errors import ConfigError

AGE_BINS = 20
"""Equal-width age bins of the paper's cohort, about 1.8 years each."""

UNSEEN = "unseen"


class HoldOut(NamedTuple):
    """The cohort in two: participants for the learners, and those for nobody."""

    training: tuple[str, ...]
    unseen: tuple[str, ...]


@final
@dataclass(frozen=True)
class Partition:
    """Who trains where.

    Attributes:
        learners: names, largest learner first: L1, L2, … or the names of sites.
        groups: the participants of each learner, in cohort order.
        unseen: participants that no learner trains on.
        environment: how the partition was drawn.

    Raises:
        ConfigError: listing every learner without participants or with another's, and every doubled name.
    """

    learners: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    unseen: tuple[str, ...]
    environment: str

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise ConfigError(
                f"A partition ({self.environment}) needs disjoint learners with participants, got: "
                f"{'; '.join(faults)}. Ask for fewer learners, or give more participants, each one once."
            )

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {n}" for name, n in zip(self.learners, self.sizes, strict=True))
        return f"Partition({self.environment}: {sizes}; {len(self.unseen)} unseen)"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Participants of each learner, in the order of ``learners``."""
        return tuple(len(group) for group in self.groups)

    def participants(self, learner: str) -> tuple[str, ...]:
        """Return the participants of ``learner``, or of "unseen".

        Raises:
            ConfigError: if there is no such learner.
        """
        if learner == UNSEEN:
            return self.unseen
        if learner not in self.learners:
            raise ConfigError(
                f"A partition has the learners {', '.join(self.learners)}, got {learner!r}. Name one of them."
            )
        return self.groups[self.learners.index(learner)]

    def rows(self, scans: Cohort | Covariates, learner: str) -> IntArray:
        """Return the rows of all scans of ``learner`` (or of "unseen"), in cohort order.

        Raises:
            ConfigError: if there is no such learner, or the cohort lacks some of its participants.
        """
        covariates = scans.covariates if isinstance(scans, Cohort) else scans
        wanted = set(self.participants(learner))
        rows = [k for k, scan in enumerate(covariates.scans) if scan.participant in wanted]
        lacking = len(wanted) - len({covariates.scans[row].participant for row in rows})
        if lacking:
            raise ConfigError(
                f"Learner {learner} needs {len(wanted)} participants of this cohort, got {lacking} that are "
                "not in it. Take the cohort that the partition was drawn from."
            )
        return np.array(rows, dtype=np.int64)

    def without(self, learner: str) -> "Partition":
        """Return the federation in which ``learner`` does not take part; its participants are in no group.

        The others keep their names: this is the control for what an attack finds without any leak.

        Raises:
            ConfigError: if there is no such learner, or no other.
        """
        if learner not in self.learners or len(self.learners) == 1:
            raise ConfigError(
                f"Leaving a learner out needs one of several, got {learner!r} of {', '.join(self.learners)}. "
                "Name one of these and keep another."
            )
        kept = [k for k, name in enumerate(self.learners) if name != learner]
        return Partition(
            tuple(self.learners[k] for k in kept),
            tuple(self.groups[k] for k in kept),
            self.unseen,
            self.environment,
        )

    def _faults(self) -> Iterator[str]:
        if len(self.learners) != len(self.groups):
            yield f"{len(self.learners)} names for {len(self.groups)} groups"
        if not self.learners:
            yield "no learner"
        for name, n in Counter((*self.learners, UNSEEN)).items():
            if n > 1:
                yield f"the name {name} {n} times"
        named = [*zip(self.learners, self.groups, strict=False), (UNSEEN, self.unseen)]
        yield from (f"{name} without participants" for name, group in named[:-1] if not group)
        owner: dict[str, str] = {}
        twice: Counter[tuple[str, str]] = Counter()
        for name, group in named:
            for participant in group:
                first = owner.setdefault(participant, name)
                if first != name:
                    twice[first, name] += 1
            repeated = len(group) - len(set(group))
            if repeated:
                yield f"{repeated} named twice in {name}"
        yield from (f"{n} participants in both {one} and {other}" for (one, other), n in twice.items())


def labelled(groups: Sequence[Sequence[str]], unseen: Sequence[str], environment: str) -> Partition:
    """Return the partition of ``groups``, named L1, L2, … as the paper names its learners.

    They are sorted by size, largest first; of two equally large ones the one drawn later comes first (Gupta
    et al. 2021, Fig. 4, by the authors' plotting code).
    """
    order = sorted(range(len(groups)), key=lambda k: (len(groups[k]), k), reverse=True)
    return Partition(
        tuple(f"L{place}" for place in range(1, len(groups) + 1)),
        tuple(tuple(groups[k]) for k in order),
        tuple(unseen),
        environment,
    )


def hold_out_unseen(
    covariates: Covariates,
    rng: np.random.Generator,
    share: float = 0.2,
    *,
    by_site: bool = False,
) -> HoldOut:
    """Return a random unseen set that has the ages of the whole cohort (Gupta et al. 2021, A.2).

    Ages are cut into 20 bins of equal width, and ``share`` of each bin is drawn; fractions go to the bins
    where they are largest, so that the set has exactly ⌈share × participants⌉ members: 2,090 of 10,446.

    Args:
        covariates: the cohort's scans; each participant is drawn once, at the mean age of the scans.
        rng: where the draw comes from.
        share: of the participants, 0 to below 1.
        by_site: draws from each site separately, where learners are sites.

    Raises:
        ConfigError: if ``share`` is out of range, or nobody is left to train on.
    """
    if not 0 <= share < 1:
        raise ConfigError(f"An unseen set needs a share from 0 to below 1, got {share}. Choose about 0.2.")
    people, ages = covariates.participants, age_of_participants(covariates)
    strata = site_of_participants(covariates) if by_site else np.zeros(len(people), dtype=np.str_)
    chosen = np.zeros(len(people), dtype=np.bool_)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        count = int(np.ceil(share * members.size - 1e-9))
        chosen[members[draw_over_ages(ages[members], count, rng)]] = True
    if chosen.all():
        raise ConfigError(
            f"An unseen set of {share:g} leaves nobody of {len(people)} participants to train on. "
            "Lower the share or give more participants."
        )
    return HoldOut(
        tuple(p for p, out in zip(people, chosen, strict=True) if not out),
        tuple(p for p, out in zip(people, chosen, strict=True) if out),
    )


def age_bins(ages: FloatArray, bins: int = AGE_BINS) -> IntArray:
    """Return the bin of each age (0 to ``bins`` − 1): equal widths from the lowest to the highest age."""
    if ages.size == 0 or ages.min() == ages.max():
        return np.zeros(ages.size, dtype=np.int64)
    inner = np.linspace(ages.min(), ages.max(), bins + 1)[1:-1]
    return np.searchsorted(inner, ages, side="right").astype(np.int64)


def draw_over_ages(ages: FloatArray, count: int, rng: np.random.Generator) -> IntArray:
    """Return ``count`` random indices whose ages are spread over the age bins as all ages are."""
    bins = age_bins(ages)
    quotas = apportion(count, np.bincount(bins, minlength=1))
    drawn = [rng.permutation(np.flatnonzero(bins == b))[:quota] for b, quota in enumerate(quotas)]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def apportion(total: int, weights: IntArray | FloatArray) -> IntArray:
    """Return whole numbers that sum to ``total``, as proportional to ``weights`` as can be.

    Largest remainders; of equal ones the first. Weights are at least 0 and not all 0.
    """
    exact = total * np.asarray(weights, dtype=np.float64) / np.sum(weights)
    parts = np.floor(exact + 1e-9).astype(np.int64)
    rest = total - int(parts.sum())
    parts[np.argsort(parts - exact, kind="stable")[:rest]] += 1
    return parts


def site_of_participants(covariates: Covariates) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    """Return the site of each participant.

    Raises:
        ConfigError: if participants were scanned at several sites.
    """
    codes = covariates.participant_index
    first = np.unique(codes, return_index=True)[1]
    sites = covariates.site[first]
    moved = len(set(codes[covariates.site != sites[codes]].tolist()))
    if moved:
        raise ConfigError(
            f"Learners by site need one site for each participant, got {moved} participants scanned at "
            "several sites. Keep the scans of one site for each of them."
        )
    return sites
