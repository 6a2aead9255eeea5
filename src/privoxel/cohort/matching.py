"""Unseen participants of the same ages as a group: without them an attack may win on age alone.

Where learners differ in age, "member of this learner" and "of this age" are nearly the same question.
Compared with an unseen set of the learner's own ages, only what the model has leaked is left.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from privoxel.arrays import IntArray, as_vector
from privoxel.cohort.nearest import NearestRemaining
from privoxel.errors import ConfigError


class AgeMatch(NamedTuple):
    """Pairs of the same age: row ``k`` of both arrays is one pair.

    Attributes:
        unseen: indices into the unseen participants' ages, each at most once.
        reference: indices into the reference ages, ascending.
        unmatched: indices into the reference ages that have no partner, ascending.
    """

    unseen: IntArray
    reference: IntArray
    unmatched: IntArray


def age_matched(
    unseen_ages: npt.ArrayLike,
    reference_ages: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    caliper: float = 1.0,
) -> AgeMatch:
    """Return for each reference age a different unseen participant of nearly that age.

    The reference ages choose in random order, each the nearest unseen age that is left, at most ``caliper``
    years away. Whoever comes too late for that stays unmatched and should be left out of the comparison too:
    otherwise the groups differ in age after all. Unseen participants of the same age are equally likely to
    be chosen. Nearest-neighbour matching within a caliper, without replacement (Austin 2011, Multivariate
    Behav. Res. 46:399, section "propensity score matching").

    Args:
        unseen_ages: years, of those who can be chosen.
        reference_ages: years, of those to be matched.
        rng: decides who chooses first.
        caliper: the largest difference in age allowed within a pair, years.

    Raises:
        ConfigError: if the caliper is negative or no number.
        ValueError: if ages are not finite numbers in one dimension.
    """
    if not caliper >= 0:
        raise ConfigError(f"Age matching needs a caliper of 0 years or more, got {caliper}. Choose about 1.")
    candidates = as_vector(unseen_ages, "unseen_ages")
    wanted = as_vector(reference_ages, "reference_ages")
    shuffled = rng.permutation(candidates.size)
    free = NearestRemaining(candidates[shuffled])
    partner = np.full(wanted.size, -1, dtype=np.int64)
    for k in rng.permutation(wanted.size):
        found = free.take_within(float(wanted[k]), caliper)
        if found is not None:
            partner[k] = shuffled[found]
    matched = np.flatnonzero(partner >= 0)
    return AgeMatch(partner[matched], matched, np.flatnonzero(partner < 0))
