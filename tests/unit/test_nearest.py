import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privoxel.cohort.nearest import NearestRemaining

ages = st.floats(20, 90).map(lambda x: round(x, 1))


def nearest_left(values, taken, target):
    """The slow obvious twin: look at everything; of two equally near the lower one."""
    left = [(abs(v - target), v) for k, v in enumerate(values) if k not in taken]
    return min(left)[1]


@settings(deadline=None)
@given(st.lists(ages, min_size=1, max_size=40), st.lists(ages, max_size=40))
def test_everyone_taken_is_as_near_as_looking_at_all(values, targets):
    free, taken = NearestRemaining(values), set()
    for target in targets[: len(values)]:
        expected = nearest_left(values, taken, target)
        index = free.take(target)
        assert index not in taken
        assert values[index] == expected
        taken.add(index)
    assert free.remaining().tolist() == [k for k in range(len(values)) if k not in taken]
    assert len(free) == len(values) - len(taken)


def test_of_two_equally_near_the_lower_is_taken():
    free = NearestRemaining([70.0, 60.0])
    assert [free.take(65.0), free.take(65.0)] == [1, 0]


def test_what_is_too_far_is_not_taken():
    free = NearestRemaining([50.0, 70.0])
    assert free.take_within(60.0, 9.9) is None
    assert len(free) == 2
    assert free.take_within(60.0, 10.0) == 0
    assert free.take_within(60.0, 10.0) == 1
    assert free.take_within(60.0, 10.0) is None


def test_taking_more_than_there_is_is_explained():
    with pytest.raises(LookupError, match="value that is left, got none"):
        NearestRemaining([]).take(60.0)


def test_values_must_be_numbers():
    with pytest.raises(ValueError, match="values needs finite values"):
        NearestRemaining([np.nan])
