"""Networks that a run trained, rebuilt from a snapshot alone."""

import pytest
import torch
from safetensors.torch import save_file

from privoxel.errors import ModelError
from privoxel.models import ModelSpec, build_model
from privoxel.models.base import channels
from privoxel.models.own_nets import CHANNELS, width_of
from privoxel.models.weights import read_weights
from privoxel.models.zoo import cnn3d, slice_mean, slice_mean_axial, slice_mean_coronal
from privoxel.recipes.white_box import checked_model, open_network
from privoxel.training.runtime import Runtime
from tests.brought_networks import in_place
from tests.conftest import make_cohort

GRID = (24, 28, 26)
ZOO = {("cnn3d", 0): cnn3d, ("slice-mean", 0): slice_mean}
ZOO |= {("slice-mean", 1): slice_mean_coronal, ("slice-mean", 2): slice_mean_axial}


def trained(spec, grid=GRID):
    """Return a network whose weights are not those of any start."""
    net = build_model(spec, grid, 61.5, seed=4)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


@pytest.mark.parametrize("width", [0.125, 0.3])
@pytest.mark.parametrize("head", ["paper", "scaled"])
@pytest.mark.parametrize(("name", "axis"), ZOO)
def test_a_snapshot_gives_back_the_network_that_was_trained(name, axis, head, width, tmp_path):
    net = trained(ModelSpec(name, width=width, head=head, scale=40.0, axis=axis))
    save_file(net.state_dict(), tmp_path / "epoch-0002.safetensors")
    again = ZOO[name, axis](read_weights(tmp_path / "epoch-0002.safetensors"), GRID)
    volumes = torch.randn(2, 1, *GRID, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(again(volumes), net(volumes), rtol=0, atol=0)
    assert not again.training


@pytest.mark.parametrize("width", [0.005, 0.017, 0.27, 0.297, 0.3285, 0.5, 1.0, 1.7])
def test_the_width_shows_in_the_channels(width):
    counts = {layer: channels(count, width) for layer, count in CHANNELS.items()}
    found = width_of(counts)
    assert {layer: channels(count, found) for layer, count in CHANNELS.items()} == counts


def test_other_weights_are_refused():
    with pytest.raises(ModelError, match=r"cnn3d needs weights of a network that privoxel trained.*stem"):
        cnn3d(in_place().state_dict(), GRID)
    slices = trained(ModelSpec("slice-mean", width=0.1)).state_dict()
    with pytest.raises(ModelError, match=r"conv7\.weight: not in the network"):
        cnn3d(slices, GRID)


def test_a_snapshot_is_opened_by_its_factory_for_the_grid_and_passes_the_checks(tmp_path):
    cohort = make_cohort(6)
    net = trained(ModelSpec("cnn3d", width=0.1, head="scaled"), cohort.grid.shape)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    box = open_network(
        "privoxel.models.zoo:cnn3d", weights=tmp_path / "w.safetensors", grid=cohort.grid.shape
    )
    model = checked_model(box, cohort, Runtime())
    assert set(model.located.roles) == {"conv1", "conv6", "output"}
    with pytest.raises(ModelError, match=r"zoo:cnn3d needs the weights .* Give --weights"):
        open_network("privoxel.models.zoo:cnn3d", grid=cohort.grid.shape)
