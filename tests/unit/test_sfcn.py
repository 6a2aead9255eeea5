import pytest
import torch

from privoxel.errors import ModelError
from privoxel.models import zoo
from privoxel.models.adapted import adapt
from privoxel.models.sfcn import SFCN, UKB_BINS, crop_middle, divide_by_mean, prepare_ukb
from privoxel.models.weights import load_into, read_weights

BLOCKS = ((32, 1, 3), (64, 32, 3), (128, 64, 3), (256, 128, 3), (256, 256, 3), (64, 256, 1))


def released_layout():
    """Return made-up weights with the names and shapes of the released file, prefix included."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for number, (made, read, side) in enumerate(BLOCKS):
        name = f"module.feature_extractor.conv_{number}"
        state[f"{name}.0.weight"] = torch.randn(made, read, side, side, side, generator=generator) * 0.05
        state[f"{name}.0.bias"] = torch.randn(made, generator=generator)
        state[f"{name}.1.weight"] = torch.rand(made, generator=generator)
        state[f"{name}.1.bias"] = torch.randn(made, generator=generator)
        state[f"{name}.1.running_mean"] = torch.randn(made, generator=generator)
        state[f"{name}.1.running_var"] = torch.rand(made, generator=generator) + 0.5
        state[f"{name}.1.num_batches_tracked"] = torch.tensor(1000)
    state["module.classifier.conv_6.weight"] = torch.randn(40, 64, 1, 1, 1, generator=generator)
    state["module.classifier.conv_6.bias"] = torch.randn(40, generator=generator)
    return state


def test_it_has_the_published_number_of_parameters():
    assert sum(parameter.numel() for parameter in SFCN().parameters()) == 2_952_936


def test_weights_in_the_released_layout_load(tmp_path):
    state = released_layout()
    torch.save(state, tmp_path / "run_epoch_best_mae.p")
    net = zoo.sfcn().net
    load_into(net, read_weights(tmp_path / "run_epoch_best_mae.p"), source="run_epoch_best_mae.p")
    assert len(net.state_dict()) == len(state)
    for name, tensor in state.items():
        assert torch.equal(net.state_dict()[name.removeprefix("module.")], tensor)


def slow_sfcn(state, volumes):
    """The published forward pass, operation by operation, from a state dict."""
    maps = volumes
    for number, (_, _, side) in enumerate(BLOCKS):
        name = f"module.feature_extractor.conv_{number}"
        maps = torch.conv3d(
            maps, state[f"{name}.0.weight"], state[f"{name}.0.bias"], padding=1 if side == 3 else 0
        )
        shape = (1, -1, 1, 1, 1)
        mean, variance = state[f"{name}.1.running_mean"], state[f"{name}.1.running_var"]
        maps = (maps - mean.view(shape)) / torch.sqrt(variance.view(shape) + 1e-5)
        maps = maps * state[f"{name}.1.weight"].view(shape) + state[f"{name}.1.bias"].view(shape)
        if side == 3:
            maps = maps.unfold(2, 2, 2).unfold(3, 2, 2).unfold(4, 2, 2).amax((5, 6, 7))
        maps = maps.clamp_min(0)
    pooled = maps.mean((2, 3, 4))
    values = pooled @ state["module.classifier.conv_6.weight"].flatten(1).T
    values = values + state["module.classifier.conv_6.bias"]
    return values - values.logsumexp(1, keepdim=True)


def test_its_output_is_that_of_the_published_operations_one_by_one():
    state = {
        name: tensor.double() if tensor.is_floating_point() else tensor
        for name, tensor in released_layout().items()
    }
    net = SFCN(averaged=(1, 2, 1)).double().eval()
    load_into(net, state, source="made up")
    volumes = torch.randn(2, 1, 35, 66, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = slow_sfcn(state, volumes)
    torch.testing.assert_close(net(volumes), expected)
    torch.testing.assert_close(
        UKB_BINS.ages(net(volumes)), expected.exp() @ (42.5 + torch.arange(40, dtype=torch.float64))
    )


def test_input_is_divided_by_the_mean_of_the_whole_image_and_cropped_to_its_middle():
    volumes = torch.rand(2, 1, 182, 218, 182, generator=torch.Generator().manual_seed(1)) + 0.1
    expected = torch.stack([v / v.mean() for v in volumes])[:, :, 11:-11, 13:-13, 11:-11]
    torch.testing.assert_close(prepare_ukb(volumes), expected)


def test_cropping_keeps_the_middle_on_unequal_and_odd_axes():
    volumes = torch.arange(7 * 8 * 9.0).reshape(1, 1, 7, 8, 9)
    torch.testing.assert_close(crop_middle(volumes, (4, 8, 6)), volumes[:, :, 1:5, :, 1:7])
    with pytest.raises(ModelError, match="at least 8 × 8 × 9 voxels, got 7 × 8 × 9"):
        crop_middle(volumes, (8, 8, 9))


def test_z_scored_volumes_and_other_grids_are_refused():
    with pytest.raises(ModelError, match="normalise='none'"):
        divide_by_mean(torch.randn(2, 1, 30, 31, 32, generator=torch.Generator().manual_seed(1)))
    with pytest.raises(ModelError, match="pool to one voxel"):
        SFCN(averaged=(1, 1, 1)).eval()(torch.ones(1, 1, 64, 64, 32))


def test_roles_of_its_layers():
    net = SFCN((2, 3, 4, 5, 6, 7), averaged=(1, 1, 1))
    box = zoo.sfcn()
    model = adapt(type(box)(net, UKB_BINS), torch.ones(1, 1, 32, 33, 34))
    assert model.located.roles == {
        "conv1": "feature_extractor.conv_0.0",
        "conv6": "feature_extractor.conv_5.0",
        "output": "classifier.conv_6",
    }
