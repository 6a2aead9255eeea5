import pytest
import torch

from privoxel.errors import ModelError
from privoxel.models import MODELS, ModelSpec, build_model
from privoxel.models.base import channels, poolings_for, to_memory_format


def test_all_faults_of_a_spec_are_listed_at_once():
    with pytest.raises(
        ModelError, match=r"width needs.*head needs one of paper, scaled.*scale.*dropout.*axis"
    ):
        ModelSpec(width=0, head="wide", scale=-1, dropout=1.0, axis=3)


def test_an_unknown_model_names_the_known_ones():
    with pytest.raises(ModelError, match="needs one of cnn3d, slice-mean"):
        build_model(ModelSpec("resnet"), (9, 10, 11), 60.0, 0)


def test_a_grid_needs_three_axes():
    with pytest.raises(ModelError, match=r"three axes, got \(9, 10\)"):
        build_model(ModelSpec(), (9, 10), 60.0, 0)


@pytest.mark.parametrize(
    ("shape", "poolings"),
    [
        ((64, 64, 64), 5),
        ((63, 80, 90), 4),
        ((300, 301, 302), 5),
        ((40, 48, 40), 4),
        ((27, 32, 27), 3),
        ((2, 9, 3), 0),
    ],
)
def test_poolings_leave_two_voxels_on_every_axis(shape, poolings):
    assert poolings_for(shape) == poolings


def test_channels_scale_with_width_and_never_vanish():
    assert [channels(c, 1.0) for c in (32, 64, 256)] == [32, 64, 256]
    assert channels(32, 0.25) == 8
    assert channels(32, 0.001) == 1


def test_the_scaled_head_multiplies_gradients_and_survives_a_state_dict():
    shape, volumes = (7, 8, 9), torch.randn(2, 1, 7, 8, 9)
    spec = ModelSpec("cnn3d", width=0.1, head="scaled", scale=50.0)
    model = build_model(spec, shape, 61.0, 0).eval()
    other = build_model(ModelSpec("cnn3d", width=0.1, head="scaled", scale=70.0), shape, 40.0, 9).eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(volumes), model(volumes))
    model(volumes).sum().backward()
    assert model.get_parameter("output.bias").grad.item() == pytest.approx(2 * 50.0)


def test_the_paper_head_has_no_buffers():
    assert not list(build_model(ModelSpec(width=0.1), (7, 8, 9), 61.0, 0).buffers())


@pytest.mark.parametrize("name", list(MODELS))
def test_channels_last_weights_have_channels_innermost_and_come_back(name):
    model = build_model(ModelSpec(name, width=0.1), (9, 10, 11), 60.0, 0)
    first = model.get_parameter("conv1.weight")
    original = first.stride()
    to_memory_format(model, None, "channels_last")
    assert first.stride()[1] == 1, "the fast kernel of the first convolution depends on this stride"
    assert model.get_parameter("conv2.weight").stride()[1] == 1
    to_memory_format(model, None, "contiguous")
    assert first.stride() == original


def test_volumes_are_formatted_and_an_unknown_format_is_refused():
    model = build_model(ModelSpec(width=0.1), (9, 10, 11), 60.0, 0)
    volumes = torch.randn(2, 1, 9, 10, 11)
    formatted = to_memory_format(model, volumes, "channels_last")
    assert formatted.model is model
    assert torch.equal(formatted.volumes, volumes)
    with pytest.raises(ModelError, match="one of contiguous, channels_last, got 'nchw'"):
        to_memory_format(model, None, "nchw")
