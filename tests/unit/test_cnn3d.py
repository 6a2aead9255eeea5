import pytest
import torch

from privoxel.errors import ModelError
from privoxel.models import ModelSpec, build_model
from privoxel.models.base import describe
from tests.twins.paper_nets import cnn3d_by_hand

TENSORS = [
    f"{layer}.{kind}"
    for layer in (*(f"conv{k}" for k in range(1, 7)), "output")
    for kind in ("weight", "bias")
]


def small(shape=(9, 13, 18), **fields):
    return build_model(ModelSpec("cnn3d", **{"width": 0.1, **fields}), shape, 62.68, 3)


def test_full_width_has_the_papers_parameters_layer_by_layer():
    model = build_model(ModelSpec("cnn3d"), (91, 109, 91), 62.68, 0)
    counts = [sum(p.numel() for p in model.get_submodule(layer).parameters()) for layer in model.layers]
    assert counts == [896, 55_360, 221_312, 884_992, 1_769_728, 16_448, 65]
    assert describe(model).parameters == 2_948_801
    assert describe(model).poolings == 5
    assert describe(model).map_shape == (2, 3, 2)


def test_there_are_fourteen_tensors_named_after_the_layers():
    assert [name for name, _ in small().named_parameters()] == TENSORS


@pytest.mark.parametrize(
    ("shape", "poolings"), [((2, 3, 2), 0), ((4, 9, 5), 1), ((9, 13, 18), 2), ((27, 32, 27), 3)]
)
def test_the_forward_pass_is_the_papers_list_of_layers(shape, poolings):
    model = small(shape).double().eval()
    volumes = torch.randn(3, 1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ages = model(volumes)
    assert model.poolings == poolings
    torch.testing.assert_close(ages, cnn3d_by_hand(model, volumes, poolings), rtol=0, atol=1e-10)


def test_the_output_starts_at_the_mean_age_in_both_heads():
    assert small().get_parameter("output.bias").item() == pytest.approx(62.68)
    scaled = small(head="scaled")
    with torch.no_grad():
        scaled.output.weight.zero_()
        assert scaled.eval()(torch.randn(2, 1, 9, 13, 18)).tolist() == pytest.approx([62.68] * 2)


def test_other_weights_start_at_the_framework_default():
    weight = build_model(ModelSpec("cnn3d"), (40, 48, 40), 62.68, 0).get_parameter("conv2.weight")
    bound = (32 * 27) ** -0.5
    assert bound * 0.99 < weight.abs().max().item() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_block_outputs_have_the_papers_map_sizes():
    model = build_model(ModelSpec("cnn3d", width=1 / 32), (91, 109, 91), 62.68, 0).eval()
    with torch.no_grad():
        found = model.activations(
            torch.randn(1, 1, 91, 109, 91), ("conv1", "conv2", "conv3", "conv4", "conv5")
        )
    shapes = [tuple(maps.shape[2:]) for maps in found.values()]
    assert shapes == [(45, 54, 45), (22, 27, 22), (11, 13, 11), (5, 6, 5), (2, 3, 2)]


def test_dropout_acts_on_the_embedding_in_training_only():
    model = small(head="paper").train()
    volumes = torch.randn(1, 1, 9, 13, 18)
    with torch.no_grad():
        assert len({model(volumes).item() for _ in range(8)}) > 1
        assert len({model.eval()(volumes).item() for _ in range(3)}) == 1
    assert model.dropout.p == 0.5


def test_a_grid_of_one_voxel_names_the_smallest_size():
    with pytest.raises(ModelError, match=r"at least 2 voxels on every axis.*got a grid of 7 × 1 × 9"):
        small((7, 1, 9))
