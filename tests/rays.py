"""What tests that need Ray are marked with, and those that start it."""

import importlib.util

import pytest

HAS_RAY = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is an extra")
DEPRECATED = pytest.mark.filterwarnings("ignore::DeprecationWarning")
NEEDS_RAY = [
    pytest.mark.ray,
    HAS_RAY,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),  # ray's own
]


def needs_ray(test):
    """Mark one test with all of ``NEEDS_RAY``."""
    for mark in NEEDS_RAY:
        test = mark(test)
    return test
