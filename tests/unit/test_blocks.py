import pytest
import torch

from privoxel.errors import ModelError
from privoxel.models import blocks
from privoxel.models.blocks import norm_pool_relu

SHAPES = [(3, 4, 7, 8, 9), (3, 4, 7, 9)]
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def maps_of(shape, last=False):
    maps = (
        torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape))) * 2 + 5
    )
    return maps.contiguous(memory_format=LAST[len(shape)]) if last else maps


def value_and_gradient(maps, **how):
    leaf = maps.clone(memory_format=torch.preserve_format).requires_grad_()
    out = norm_pool_relu(leaf, **how)
    weights = torch.linspace(-1, 2, out.numel(), dtype=torch.float64).view(out.shape)
    (gradient,) = torch.autograd.grad((out * weights).sum(), leaf)
    return out.detach(), gradient


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("last", [False, True])
def test_taking_the_norm_after_the_pool_changes_neither_value_nor_gradient(shape, last):
    maps = maps_of(shape, last)
    fused = value_and_gradient(maps, pool=True, fused=True)
    plain = value_and_gradient(maps, pool=True, fused=False)
    for ours, reference in zip(fused, plain, strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)


def test_the_order_is_norm_then_pool_then_relu():
    maps = maps_of((2, 3, 5, 6))
    mean = maps.mean((2, 3), keepdim=True)
    normed = (maps - mean) / (((maps - mean) ** 2).mean((2, 3), keepdim=True) + 1e-5).sqrt()
    pooled = normed[:, :, :4, :6].reshape(2, 3, 2, 2, 3, 2).amax((3, 5))
    torch.testing.assert_close(norm_pool_relu(maps, pool=True), pooled.clamp(min=0), rtol=0, atol=1e-12)
    torch.testing.assert_close(norm_pool_relu(maps, pool=False), normed.clamp(min=0), rtol=0, atol=1e-12)


def test_a_constant_map_gives_zeros_and_a_finite_gradient():
    out, gradient = value_and_gradient(torch.full((1, 2, 4, 5, 6), 3.0, dtype=torch.float64), pool=True)
    assert not out.any()
    assert gradient.isfinite().all()


def test_large_offsets_lose_no_more_digits_than_the_framework():
    maps = (torch.randn(2, 3, 8, 9, 10, generator=torch.Generator().manual_seed(0)) + 1000).float()
    exact = norm_pool_relu(maps.double(), pool=True)
    ours = (norm_pool_relu(maps, pool=True).double() - exact).abs().max()
    theirs = (norm_pool_relu(maps, pool=True, fused=False).double() - exact).abs().max()
    assert ours < max(2 * theirs.item(), 1e-3)


def test_half_precision_maps_are_normed_in_float32():
    maps = torch.randn(2, 3, 4, 5, 6).bfloat16()
    assert norm_pool_relu(maps, pool=True).dtype == torch.float32


def test_second_derivatives_are_refused_not_wrong():
    leaf = maps_of((2, 3, 4, 5)).requires_grad_()
    (gradient,) = torch.autograd.grad(norm_pool_relu(leaf, pool=True).square().sum(), leaf, create_graph=True)
    with pytest.raises(ModelError, match=r"first derivatives only.*Set model\.fused = False"):
        gradient.sum().backward()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("last", [False, True])
def test_slabs_change_nothing(shape, last, monkeypatch):
    maps = maps_of(shape, last)
    whole = norm_pool_relu(maps, pool=True)
    monkeypatch.setattr(blocks, "SLAB_BYTES", maps.nbytes // 3)
    torch.testing.assert_close(norm_pool_relu(maps, pool=True), whole, rtol=0, atol=1e-12)


def test_maps_of_one_channel_and_flat_maps_are_normed_alike():
    for shape in ((2, 1, 4, 6, 5), (3, 5, 4, 2), (1, 3, 2, 2, 2)):
        for last in (False, True):
            maps = maps_of(shape, last)
            plain = norm_pool_relu(maps, pool=True, fused=False)
            torch.testing.assert_close(norm_pool_relu(maps, pool=True), plain, rtol=0, atol=1e-12)
