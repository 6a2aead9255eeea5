import pytest
import torch

from privoxel.errors import ModelError
from privoxel.models import ModelSpec, build_model
from privoxel.models.base import describe
from tests.twins.paper_nets import slice_mean_by_hand

SHAPE = (7, 10, 13)


def small(axis=0, shape=SHAPE, **fields):
    return build_model(ModelSpec("slice-mean", width=0.1, axis=axis, **fields), shape, 62.68, 3)


def test_full_width_has_the_papers_parameters_layer_by_layer():
    model = build_model(ModelSpec("slice-mean"), (91, 109, 91), 62.68, 0)
    counts = [sum(p.numel() for p in model.get_submodule(layer).parameters()) for layer in model.layers]
    assert counts == [320, 18_496, 73_856, 295_168, 590_080, 16_448, 2_080, 2_112, 65]
    assert describe(model).parameters == 998_625
    assert len(list(model.parameters())) == 18


@pytest.mark.parametrize(("axis", "last_map"), [(0, (3, 2)), (1, (2, 2)), (2, (2, 3))])
def test_the_last_map_is_the_papers_for_every_axis(axis, last_map):
    model = build_model(ModelSpec("slice-mean", axis=axis), (91, 109, 91), 62.68, 0)
    assert model.poolings == 5
    assert model.map_shape == last_map


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_forward_pass_is_the_papers_list_of_layers_slice_by_slice(axis):
    model = small(axis).double().eval()
    volumes = torch.randn(2, 1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    poolings = {0: 2, 1: 1, 2: 1}[axis]
    with torch.no_grad():
        ages = model(volumes)
        by_hand = torch.stack([slice_mean_by_hand(model, v[0], poolings, axis) for v in volumes])
    torch.testing.assert_close(ages, by_hand, rtol=0, atol=1e-10)


def test_the_order_of_slices_does_not_matter_and_that_of_rows_does():
    model = small().double().eval()
    with torch.no_grad():
        model.hidden.weight.mul_(1e3)
        volumes = torch.randn(1, 1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        age = model(volumes).item()
        assert model(volumes.flip(2)).item() == pytest.approx(age, abs=1e-9)
        assert model(volumes.flip(3)).item() != pytest.approx(age, abs=1e-6)


def test_initial_weights_are_those_of_the_papers_code():
    model = build_model(ModelSpec("slice-mean"), (27, 32, 27), 62.68, 0)
    conv, hidden = model.get_parameter("conv4.weight"), model.get_parameter("hidden.weight")
    assert conv.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)  # fan_out, gain √2
    assert hidden.std().item() == pytest.approx(0.01, rel=0.1)
    assert all(not model.get_parameter(f"{layer}.bias").any() for layer in model.layers[:-1])
    assert model.get_parameter("output.bias").item() == pytest.approx(62.68)
    assert 0.11 < model.get_parameter("output.weight").abs().max().item() <= 1 / 8


def test_a_single_slice_is_enough_but_a_single_row_is_not():
    assert small(shape=(1, 10, 13)).poolings == 2
    with pytest.raises(ModelError, match=r"at least 2 voxels.*got a grid of 1 × 13"):
        small(shape=(10, 1, 13))
