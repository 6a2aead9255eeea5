"""What every test that starts Ray is marked with."""

import importlib.util

import pytest

NEEDS_RAY = [
    pytest.mark.ray,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is an extra"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),  # ray's own
]


def needs_ray(test):
    """Mark one test with all of ``NEEDS_RAY``."""
    for mark in NEEDS_RAY:
        test = mark(test)
    return test
