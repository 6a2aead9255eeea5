"""Keeping freed memory is a wish to the C library, never a condition."""

import ctypes

import pytest

from privoxel.training.allocator import MMAP_MAX, TRIM_THRESHOLD, keep_freed_memory


class Library:
    def __init__(self):
        self.told = {}

    def mallopt(self, parameter, value):
        self.told[parameter] = value
        return 1


def test_the_allocator_is_told_to_map_nothing_and_to_trim_nothing(monkeypatch):
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    assert keep_freed_memory()
    assert library.told == {MMAP_MAX: 0, TRIM_THRESHOLD: -1}


@pytest.mark.parametrize("library", [None, object()])
def test_another_allocator_is_left_alone(monkeypatch, library):
    def load(name):
        if library is None:
            raise OSError(name)
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert not keep_freed_memory()
