import numpy as np
import torch

from privoxel.seeding import Streams, torch_stream


def test_a_stream_depends_on_its_name_and_root_only():
    first = Streams(1).generator("a").integers(2**40, size=5)
    Streams(1).generator("b").integers(10)
    np.testing.assert_array_equal(first, Streams(1).generator("a").integers(2**40, size=5))
    assert not np.array_equal(first, Streams(1).generator("b").integers(2**40, size=5))
    assert not np.array_equal(first, Streams(2).generator("a").integers(2**40, size=5))


def test_a_child_is_the_same_as_the_longer_name():
    assert Streams(3).child("x").seed("y") == Streams(3).seed("x/y")


def test_torch_stream_repeats_inside_and_restores_outside():
    before = torch.random.get_rng_state()
    with torch_stream(5):
        first = torch.randn(3)
    with torch_stream(5):
        second = torch.randn(3)
    assert torch.equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())
