import numpy as np
import pytest
import torch
from torch import nn

from privoxel.errors import ModelError
from privoxel.gradients.one_pass import Extractor
from privoxel.gradients.request import Request
from privoxel.models import ModelSpec, build_model
from privoxel.models.adapted import LARGEST, WhiteBox, adapt, chosen_output, find_roles
from privoxel.models.heads import Gaussian, Scalar, SoftBins
from privoxel.models.validation import find_problems
from tests.brought_networks import GRID, in_place

AGES = torch.tensor([47.5, 80.25, 62.0, 55.0, 71.0], dtype=torch.float64)


def volumes(scans=5):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(scans, 1, *GRID, dtype=torch.float64, generator=generator)


def slow_gradients(model, scans, ages):
    """One scan after the other, by the framework's own differentiation of the whole network."""
    for row in range(len(scans)):
        model.zero_grad()
        loss = model.head.losses(model(scans[row : row + 1]), ages[row : row + 1])
        loss.sum().backward()
        yield {name: p.grad.clone() for name, p in model.named_parameters()}


HEADS = [
    (Scalar(), 1),
    (Scalar("l1", offset=60, scale=9), 1),
    (Scalar("huber", target=2), 4),
    (SoftBins(40, 90, width=5, sigma=3), 10),
    (Gaussian(), 2),
]


@pytest.mark.parametrize(("head", "outputs"), HEADS, ids=lambda v: type(v).__name__)
def test_gradients_of_in_place_networks_are_those_of_each_scan_alone(head, outputs):
    model = adapt(WhiteBox(in_place(outputs).double(), head), volumes(1))
    scans = volumes()
    names = tuple(name for name, _ in model.named_parameters())
    request = Request(gradients=names, norms=True, activations=model.layers[-1:])
    found = Extractor(model, request, volumes=scans, ages=AGES, loss=head.losses)(scans, AGES)
    for row, expected in enumerate(slow_gradients(model, scans, AGES)):
        largest = max(g.norm() for g in expected.values())
        for k, name in enumerate(names):
            assert (found.gradients[name][row] - expected[name]).norm() <= 1e-9 * largest, name
            assert abs(found.norms[row, k] - expected[name].norm()) <= 1e-9 * largest, name


class Reshaped(nn.Module):
    """A network of the user's that returns its ages in some shape."""

    def __init__(self, reshape):
        super().__init__()
        self.net = in_place()
        self.reshape = reshape

    def forward(self, scans):
        return self.reshape(self.net(scans))


SHAPES = {
    "(scans,)": lambda ages: ages[:, 0],
    "(scans, 1)": lambda ages: ages,
    "squeeze()": lambda ages: ages.squeeze(),
    "dictionary": lambda ages: {"age": ages.squeeze()},
    "(scans, 1, 1, 1, 1)": lambda ages: ages[..., None, None, None],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_ages_may_have_any_shape_with_a_scan_for_each_and_be_of_one_scan(shape):
    output = "age" if shape == "dictionary" else None
    model = adapt(WhiteBox(Reshaped(SHAPES[shape]).double(), output=output), volumes(1))
    scans, plain = volumes(), in_place().double()
    assert find_problems(model, scans, AGES) == ()
    torch.testing.assert_close(model.head.ages(model(scans)), plain(scans)[:, 0])
    assert model.head.ages(model(scans[:1])).shape == (1,)
    names = ("net.net.head.weight", "net.net.stem.weight")
    request = Request(gradients=names, norms=True)
    extractor = Extractor(model, request, volumes=scans, ages=AGES, loss=model.head.losses)
    found, alone = extractor(scans, AGES), extractor(scans[2:3], AGES[2:3])
    for row, expected in enumerate(slow_gradients(model, scans, AGES)):
        for name in names:
            torch.testing.assert_close(found.gradients[name][row], expected[name])
    torch.testing.assert_close(alone.norms[0], found.norms[2])


def test_several_values_of_a_scan_are_told_from_several_scans_after_squeeze():
    net = nn.Sequential(nn.Flatten(), nn.Linear(720, 2)).double()
    net.register_forward_hook(lambda *args: args[-1].squeeze())
    model = adapt(WhiteBox(net, Gaussian()), volumes(1))
    assert find_problems(model, volumes(), AGES) == ()
    assert model(volumes(1)).shape == (1, 2)


def test_two_squeezed_values_of_one_scan_are_put_side_by_side():
    net = nn.Sequential(nn.Flatten(), nn.Linear(720, 2)).double()
    net.register_forward_hook(lambda *args: (args[-1][:, 0].squeeze(), args[-1][:, 1].squeeze()))
    model = adapt(WhiteBox(net, Gaussian()), volumes(1))
    assert find_problems(model, volumes(), AGES) == ()
    assert model(volumes(1)).shape == (1, 2)


@pytest.mark.parametrize("name", ["cnn3d", "slice-mean"])
def test_own_networks_are_audited_as_they_are(name):
    net = build_model(ModelSpec(name, width=0.1), GRID, 62.0, seed=1).double()
    model = adapt(WhiteBox(net.eval()), volumes(1))
    assert find_problems(model, volumes(), AGES) == ()
    assert set(model.located.roles) == {"conv1", "conv6", "output"}


def test_activations_are_channel_means_of_what_the_last_convolution_reads():
    net = in_place().double()
    model = adapt(WhiteBox(net), volumes(1))
    scans = volumes()
    expected = torch.relu(net.norm(net.stem(scans))).mean((2, 3, 4))
    (found,) = model.activations(scans, model.layers[-1:]).values()
    torch.testing.assert_close(found, expected)


def test_roles_are_found_in_the_order_of_use_and_not_of_definition():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(3, 1)
            self.second = nn.Conv3d(2, 3, 3)
            self.unused = nn.Conv3d(2, 3, 3)
            self.first = nn.Conv3d(1, 2, 3)

        def forward(self, maps):
            return self.out(self.second(self.first(maps)).mean((2, 3, 4)))

    places = adapt(WhiteBox(Backwards().double()), volumes(1)).located
    assert places.roles == {"conv1": "first", "conv6": "second", "output": "out"}
    assert places.described["conv5"] == "what second reads"


def test_every_role_has_a_layer_of_its_own():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(720, 1)).double()
    assert adapt(WhiteBox(flat), volumes(1)).located.roles == {"output": "1"}
    two = nn.Sequential(nn.Flatten(), nn.Linear(720, 4), nn.Linear(4, 1)).double()
    assert adapt(WhiteBox(two), volumes(1)).located.roles == {"conv6": "1", "output": "2"}


def test_layers_too_large_to_keep_play_no_role_by_themselves():
    net = nn.ModuleDict(
        {
            "a": nn.Conv3d(1, 4, 3),
            "b": nn.Conv3d(4, 5, 3),
            "c": nn.Conv3d(512, 512, 1),
            "d": nn.Linear(5, 1),
        }
    )
    assert net["c"].weight.numel() > LARGEST
    used = ("a", "b", "c", "d")
    assert find_roles(net, used, {}) == {"conv1": "a", "conv6": "b", "output": "d"}
    assert find_roles(net, used, {"conv6": "c"}) == {"conv1": "a", "conv6": "c", "output": "d"}


def test_named_layers_are_checked_and_all_faults_told():
    box = WhiteBox(in_place().double(), layers=("body", "nowhere"), roles={"conv9": "stem", "conv1": "relu"})
    with pytest.raises(
        ModelError, match=r"roles needs conv1.*got conv9.*got relu, nowhere.*among stem, body"
    ):
        adapt(box, volumes(1))


def test_further_layers_are_kept_besides_the_roles():
    model = adapt(WhiteBox(in_place().double(), layers=("norm", "body")), volumes(1))
    assert model.located.extra == ("norm",)


def test_slices_folded_into_the_batch_give_no_activation():
    class Slices(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)
            self.out = nn.Linear(3, 1)

        def forward(self, maps):
            folded = maps.movedim(2, 1).flatten(0, 1)
            return self.out(self.conv(folded).mean((2, 3)).unflatten(0, (len(maps), -1)).mean(1))

    assert adapt(WhiteBox(Slices().double()), volumes(1)).located.reads == ""


def test_what_networks_return_is_read_as_one_tensor():
    mean, spread = torch.ones(3, 1), torch.zeros(3)
    assert chosen_output([mean], None) is not None
    np.testing.assert_array_equal(chosen_output((mean, spread), None), [[1, 0]] * 3)
    assert chosen_output({"age": mean, "map": spread}, "age").shape == (3, 1)
    assert chosen_output((mean, torch.zeros(3, 7)), 0).shape == (3, 1)
    with pytest.raises(ModelError, match="a dictionary of age, map"):
        chosen_output({"age": mean, "map": spread}, None)
    with pytest.raises(ModelError, match="needs 'sex' among"):
        chosen_output({"age": mean}, "sex")


def test_volumes_are_given_in_the_networks_precision_and_prepared():
    model = adapt(WhiteBox(in_place().double(), prepare=lambda v: v * 2), volumes(1))
    direct = model.net(volumes() * 2)
    torch.testing.assert_close(model(volumes().float()).double(), direct, rtol=1e-4, atol=1e-4)
