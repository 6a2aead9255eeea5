"""Who trains which shadow model: balanced designs over the judged participants, or over other people.

Balanced: every participant is inside the same number of shadows (± 1) and every shadow has the same number of
participants (± 1), whatever the fraction and however odd the numbers. Population: the shadows are trained on
people who are neither members nor non-members of the target, so that all judged scans are outside of all.
Distilled: students are all taught on everyone of such a population, and differ by their seed.

A shadow trained on exactly the target's non-members (or on its members) would tell who they are: such a
draw is refused and drawn again. With two shadows and a fraction of one half the two are each other's
complement, which no balanced design can avoid; neither is the target's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from privoxel.arrays import BoolArray, IntArray
from privoxel.cohort.base import Covariates
from privoxel.cohort.splits import EXCLUDED, MEMBER, NON_MEMBER
from privoxel.errors import ConfigError

DRAWS = 20


@final
@dataclass(frozen=True)
class ShadowDesign:
    """Which of ``pool`` each shadow is trained on: ``inside`` is shadows × pool."""

    pool: tuple[str, ...]
    inside: BoolArray

    def __post_init__(self) -> None:
        if self.inside.ndim != 2 or self.inside.shape[1] != len(self.pool):
            raise ConfigError(
                f"A shadow design needs one column a participant ({len(self.pool)}), got shape "
                f"{self.inside.shape}. Give shadows × participants."
            )
        if len(set(self.pool)) != len(self.pool):
            raise ConfigError("A shadow design needs distinct participants, got one twice. Name each once.")

    def __len__(self) -> int:
        return len(self.inside)

    def members(self, shadow: int) -> tuple[str, ...]:
        """Return the participants whose scans train the shadow of this number (from 0)."""
        return tuple(name for name, is_in in zip(self.pool, self.inside[shadow], strict=True) if is_in)

    def unseen(self, shadow: int) -> tuple[str, ...]:
        """Return the participants of the pool that the shadow is not trained on."""
        return tuple(name for name, is_in in zip(self.pool, self.inside[shadow], strict=True) if not is_in)

    def membership(self, covariates: Covariates, *, excluded: Sequence[str] = ()) -> npt.NDArray[np.int8]:
        """Return shadows × scans: MEMBER, NON_MEMBER for everyone else, or EXCLUDED for those named."""
        position = {name: k for k, name in enumerate(self.pool)}
        barred = set(excluded)
        states = np.full((len(self), len(covariates)), NON_MEMBER, dtype=np.int8)
        for scan, who in enumerate(covariates.scans):
            if who.participant in barred:
                states[:, scan] = EXCLUDED
            elif who.participant in position:
                states[self.inside[:, position[who.participant]], scan] = MEMBER
        return states


def balanced_design(
    pool: Sequence[str],
    count: int,
    rng: np.random.Generator,
    *,
    fraction: float = 0.5,
    target_members: Sequence[str] = (),
) -> ShadowDesign:
    """Return ``count`` shadows over ``pool``; each participant is inside count × ``fraction`` of them (± 1).

    Args:
        pool: participants to draw from.
        count: number of shadows.
        rng: where the draw comes from.
        fraction: share (0-1) of the pool that trains each shadow, within one participant.
        target_members: who trained the target; no shadow may have exactly these of the pool, or all others.

    Raises:
        ConfigError: for numbers that allow no design, or if every draw repeats the target or its complement.
    """
    places = _places(len(pool), count, fraction)
    theirs = np.isin(np.array(pool, dtype=object), np.array([*target_members], dtype=object))
    for _ in range(DRAWS):
        inside = _draw(len(pool), count, places, rng)
        if not (target_members and repeats_or_complements(inside, theirs).any()):
            return ShadowDesign(tuple(pool), inside)
    raise ConfigError(
        f"A shadow design needs shadows unlike the target and its complement, got one in each of {DRAWS} "
        f"draws of {len(pool)} participants. Give a larger pool or another fraction."
    )


def population_design(
    population: Sequence[str],
    count: int,
    rng: np.random.Generator,
    *,
    judged: Sequence[str],
    fraction: float = 1.0,
) -> ShadowDesign:
    """Return ``count`` shadows trained on ``fraction`` of ``population`` each, and on nobody who is judged.

    With a fraction of 1 all shadows have the same participants and differ by their seed alone.

    Raises:
        ConfigError: if the population shares participants with ``judged``, or for numbers that allow none.
    """
    shared = set(population) & set(judged)
    if shared:
        raise ConfigError(
            f"A population design needs participants who are not judged, got {len(shared)} who are. "
            "Name a group of their own: [split] others."
        )
    places = _places(len(population), count, fraction)
    return ShadowDesign(tuple(population), _draw(len(population), count, places, rng))


def distilled_design(
    population: Sequence[str], count: int, rng: np.random.Generator, *, judged: Sequence[str]
) -> ShadowDesign:
    """Return ``count`` students of a target, each taught its predictions on all of ``population``.

    Predictions cost nothing to ask for, so no part of the population is left out.

    Raises:
        ConfigError: if the population is empty, or shares participants with ``judged``.
    """
    if not population:
        raise ConfigError(
            "Distilled references need participants who are not judged, got none. Set [split] others, or "
            "[shadows] distilled = 0."
        )
    return population_design(population, count, rng, judged=judged)


def repeats_or_complements(inside: BoolArray, members: BoolArray) -> BoolArray:
    """Return which shadows are trained on exactly the ``members`` of the pool, or on exactly all others."""
    return np.asarray((inside == members).all(axis=1) | (inside != members).all(axis=1))


def _places(pool: int, count: int, fraction: float) -> int:
    """Return how many participants all shadows have together, after checking that there are designs."""
    if count < 1 or not 0 < fraction <= 1:
        raise ConfigError(
            f"A shadow design needs at least one shadow and a fraction of 0 to 1, got {count} and "
            f"{fraction:g}. Set [shadows] count and fraction."
        )
    if round(pool * fraction) < 1:
        raise ConfigError(
            f"A shadow design needs at least one participant a shadow, got {fraction:g} of {pool}. "
            "Give a larger pool or fraction."
        )
    return int(np.floor(pool * fraction * count + 0.5))


def _draw(pool: int, count: int, places: int, rng: np.random.Generator) -> BoolArray:
    """Return a random shadows × pool matrix whose column sums differ by at most 1, and row sums too.

    Participants come in random order; each enters the shadows that are emptiest so far, ties at random.
    """
    sizes = np.full(pool, places // pool, dtype=np.int64)
    sizes[rng.permutation(pool)[: places % pool]] += 1
    inside = np.zeros((count, pool), dtype=np.bool_)
    filled: IntArray = np.zeros(count, dtype=np.int64)
    for participant in rng.permutation(pool):
        emptiest = np.lexsort((rng.random(count), filled))[: sizes[participant]]
        inside[emptiest, participant] = True
        filled[emptiest] += 1
    return inside
