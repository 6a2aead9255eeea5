"""Data environments of a federation: who goes to which learner (Gupta et al. 2021, A.2, and two others).

Each function divides all participants of a cohort, except those of ``unseen``, among learners. ``sizes``
asks for a number of participants at each learner; whom they leave over stays out, drawn at random and spread
over the ages. Where the paper is silent its authors' published scripts were followed; docs/federations.md
says what they do and where this differs.
"""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple, TypedDict

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.cohort.base import Covariates
from privoxel.cohort.dealing import (
    AgeTargets,
    cells_in_turn,
    equal_sizes,
    log_mixtures,
    log_share_of_years,
    nearest_in_turn,
    same_of_each_bin,
    skewed_sizes,
    spread_over,
)
from privoxel.cohort.partitions import (
    Partition,
    age_bins,
    draw_over_ages,
    hold_out_unseen,
    labelled,
    site_of_participants,
)
from privoxel.cohort.splits import age_of_participants
from privoxel.config import PartitionConfig
from privoxel.errors import ConfigError

UNIFORM_AGES = AgeTargets((50.0, 60.0, 70.0, 80.0), 7.0)
SKEWED_AGES = AgeTargets((90.0, 70.0, 50.0, 30.0), 10.0)


class _Asked(TypedDict):
    learners: int
    sizes: Sequence[int] | None
    unseen: Collection[str]


def draw_partition(config: PartitionConfig, covariates: Covariates, rng: np.random.Generator) -> Partition:
    """Return the partition that ``config`` asks for, the unseen set drawn first.

    From generators in the same state all environments but ``site`` get the same unseen set.

    Raises:
        ConfigError: saying which learner would have nobody, or what else cannot be had.
    """
    by_sites = config.environment == "site"
    unseen = hold_out_unseen(covariates, rng, config.unseen, by_site=by_sites).unseen
    asked = _Asked(learners=config.learners, sizes=config.sizes, unseen=unseen)
    in_paper = config.ages == "paper"
    match config.environment:
        case "uniform-iid":
            return uniform_iid(covariates, rng, **asked)
        case "uniform-non-iid":
            ages = UNIFORM_AGES if in_paper else None
            return uniform_non_iid(covariates, rng, ages=ages, **asked)
        case "skewed-non-iid":
            ages = SKEWED_AGES if in_paper else None
            return skewed_non_iid(covariates, rng, ratio=config.ratio, ages=ages, **asked)
        case "dirichlet":
            return dirichlet_over_age(covariates, rng, alpha=config.alpha, **asked)
    return by_site(covariates, minimum=config.smallest_site, unseen=unseen)


def uniform_iid(
    covariates: Covariates,
    rng: np.random.Generator,
    *,
    learners: int = 8,
    sizes: Sequence[int] | None = None,
    unseen: Collection[str] = (),
) -> Partition:
    """Return equally large learners of the same ages: Uniform & IID.

    Each of 20 age bins gives ⌊bin / learners⌋ participants to every learner, and the rest of all bins goes to
    the last one: 7 × 1,037 and 1,097 in the paper. Where that would make the last learner more than a tenth
    larger than an equal share, as in small cohorts, the rest is spread over all learners instead. With
    ``sizes`` every learner's ages are spread evenly over the bins.

    Raises:
        ConfigError: naming learners that would have nobody, or if ``sizes`` ask for too many.
    """
    pool = _pool(covariates, rng, _Asked(learners=learners, sizes=sizes, unseen=unseen))
    bins = age_bins(pool.ages)
    if sizes is None:
        labels = same_of_each_bin(bins, learners, rng)
    else:
        labels = spread_over(np.lexsort((rng.random(bins.size), bins)), pool.sizes, rng)
    return pool.divided(labels, "uniform-iid")


def uniform_non_iid(
    covariates: Covariates,
    rng: np.random.Generator,
    *,
    learners: int = 8,
    sizes: Sequence[int] | None = None,
    unseen: Collection[str] = (),
    ages: AgeTargets | None = None,
) -> Partition:
    """Return equally large learners of different ages: Uniform & non-IID.

    In turn each learner draws an age from its normal distribution and takes the participant nearest to it who
    is left; when 86 % of a learner are chosen so (900 of 1,044 in the paper), the others are dealt out.
    ``ages`` are by default ``UNIFORM_AGES`` moved to this cohort's mean and SD.

    Raises:
        ConfigError: naming learners that would have nobody, or if ``sizes`` ask for too many.
    """
    pool = _pool(covariates, rng, _Asked(learners=learners, sizes=sizes, unseen=unseen))
    targets = ages or UNIFORM_AGES.scaled_to(pool.ages)
    return pool.divided(nearest_in_turn(pool.ages, pool.sizes, targets, rng), "uniform-non-iid")


def skewed_non_iid(  # noqa: PLR0913 - each choice of the environment by its own name
    covariates: Covariates,
    rng: np.random.Generator,
    *,
    learners: int = 8,
    sizes: Sequence[int] | None = None,
    unseen: Collection[str] = (),
    ratio: float = 1.35,
    ages: AgeTargets | None = None,
) -> Partition:
    """Return learners of different sizes and ages: Skewed & non-IID.

    Each learner is ``ratio`` times as large as the next. In turn each that is not full draws a whole year
    from its normal distribution, again if nobody of that age is left, and takes one participant of that age.
    ``ages`` are by default ``SKEWED_AGES`` moved to this cohort's mean and SD.

    Raises:
        ConfigError: if ``ratio`` is below 1, naming learners that would have nobody, or if ``sizes`` ask for
            too many.
    """
    if not 1 <= ratio < np.inf:
        raise ConfigError(f"Skewed sizes need a ratio of 1 or more, got {ratio}. The paper's is 1.35.")
    pool = _pool(covariates, rng, _Asked(learners=learners, sizes=sizes, unseen=unseen))
    wanted = skewed_sizes(pool.ages.size, learners, ratio) if sizes is None else pool.sizes
    targets = ages or SKEWED_AGES.scaled_to(pool.ages)
    years, cells = np.unique(np.floor(pool.ages), return_inverse=True)
    weights = np.stack([log_share_of_years(years, targets.of(k), targets.sd) for k in range(len(wanted))])
    return pool.divided(cells_in_turn(cells, weights, wanted, rng), "skewed-non-iid")


def dirichlet_over_age(
    covariates: Covariates,
    rng: np.random.Generator,
    *,
    alpha: float = 0.5,
    learners: int = 8,
    sizes: Sequence[int] | None = None,
    unseen: Collection[str] = (),
) -> Partition:
    """Return learners whose mixtures of age bins come from a Dirichlet distribution.

    Learner k draws its mixture of the K occupied age bins from Dirichlet(α K p), p the shares of the bins in
    the cohort (Hsu et al. 2019, arXiv:1909.06335, section 3, with α counted per bin): a large α makes
    every learner the cohort in small, a small one gives each a few bins. Learners take participants in turn
    until they are full, equally large by default, from the bins that are not empty.

    Raises:
        ConfigError: if ``alpha`` is not above 0, naming learners that would have nobody, or if ``sizes`` ask
            for too many.
    """
    if not 0 < alpha < np.inf:
        raise ConfigError(f"A Dirichlet partition needs an alpha above 0, got {alpha}. Choose about 0.5.")
    pool = _pool(covariates, rng, _Asked(learners=learners, sizes=sizes, unseen=unseen))
    occupied, cells, counts = np.unique(age_bins(pool.ages), return_inverse=True, return_counts=True)
    concentration = alpha * occupied.size * counts / counts.sum()
    weights = log_mixtures(concentration, len(pool.sizes), rng)
    return pool.divided(cells_in_turn(cells, weights, pool.sizes, rng), "dirichlet")


def by_site(covariates: Covariates, *, minimum: int = 10, unseen: Collection[str] = ()) -> Partition:
    """Return one learner for each site of the cohort, named after it, largest first.

    In names, whatever is no letter, digit, dot, underscore or hyphen becomes a hyphen.

    Raises:
        ConfigError: if a participant's site is unknown or changes, or listing every site with fewer than
            ``minimum`` participants besides the unseen ones.
    """
    held = _unseen_of(covariates, unseen)
    out = set(held)
    groups: dict[str, list[str]] = {}
    for participant, site in zip(covariates.participants, site_of_participants(covariates), strict=True):
        groups.setdefault(str(site), [])
        if participant not in out:
            groups[str(site)].append(participant)
    if "" in groups:
        raise ConfigError(
            f"Learners by site need a site for every participant, got {len(groups[''])} without. "
            "Fill the column site, or leave these participants out."
        )
    few = [f"{site} ({len(group)})" for site, group in sorted(groups.items()) if len(group) < minimum]
    if few:
        raise ConfigError(
            f"Learners by site need {minimum} participants at every site, got fewer at {', '.join(few)}. "
            "Leave these sites out, or lower the minimum."
        )
    order = sorted(groups, key=lambda site: (-len(groups[site]), site))
    names = tuple(re.sub(r"[^A-Za-z0-9._-]+", "-", site).strip("-._") or "site" for site in order)
    return Partition(names, tuple(tuple(groups[site]) for site in order), held, "site")


class _Pool(NamedTuple):
    """Those to be divided: places in the cohort's list of participants, ages in years, sizes asked for."""

    participants: tuple[str, ...]
    ages: FloatArray
    sizes: tuple[int, ...]
    unseen: tuple[str, ...]

    def divided(self, labels: IntArray, environment: str) -> Partition:
        groups = [[self.participants[k] for k in np.flatnonzero(labels == g)] for g in range(len(self.sizes))]
        return labelled(groups, self.unseen, environment)


def _pool(covariates: Covariates, rng: np.random.Generator, asked: _Asked) -> _Pool:
    learners, sizes, people = asked["learners"], asked["sizes"], covariates.participants
    unseen = _unseen_of(covariates, asked["unseen"])
    out = set(unseen)
    keep = np.array([k for k, name in enumerate(people) if name not in out], dtype=np.int64)
    _check(learners, sizes, keep.size)
    ages = age_of_participants(covariates)
    if sizes is not None and sum(sizes) < keep.size:
        keep = keep[draw_over_ages(ages[keep], sum(sizes), rng)]
    wanted = equal_sizes(keep.size, learners) if sizes is None else tuple(int(size) for size in sizes)
    return _Pool(tuple(people[k] for k in keep), ages[keep], wanted, unseen)


def _unseen_of(covariates: Covariates, unseen: Collection[str]) -> tuple[str, ...]:
    """Return the unseen participants in cohort order."""
    wanted, people = set(unseen), covariates.participants
    strangers = len(wanted.difference(people))
    if strangers:
        raise ConfigError(
            f"A partition needs unseen participants of the cohort, got {strangers} of {len(wanted)} that are "
            "not in it. Draw them from this cohort with hold_out_unseen."
        )
    return tuple(name for name in people if name in wanted)


def _check(learners: int, sizes: Sequence[int] | None, available: int) -> None:
    faults = []
    if not 1 <= learners <= available:
        faults.append(f"{learners} learners for {available} participants")
    if sizes is not None:
        if len(sizes) != learners:
            faults.append(f"{len(sizes)} sizes for {learners} learners")
        if sum(sizes) > available:
            faults.append(f"sizes that sum to {sum(sizes)} of {available} participants")
        faults += [f"a size of {size}" for size in sizes if size < 1]
    if faults:
        raise ConfigError(
            "A partition needs at least 1 participant for each learner, and no more than there are besides "
            f"the unseen ones, got {'; '.join(faults)}. Correct the learners or their sizes."
        )
