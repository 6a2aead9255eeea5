"""Every layer type against differentiating each scan alone, in float64, on unequal axes."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from privoxel.gradients.one_pass import Extractor
from privoxel.gradients.projection import signs
from privoxel.gradients.request import Request
from tests.twins.gradient_loop import gradient_loop

AGES = torch.tensor([1.5, -2.0, 0.25], dtype=torch.float64)


class ReadOut(nn.Module):
    """Layers under test behind a nonlinear entrance: every gradient depends on the scan."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, volumes):
        return self.layers(torch.sin(volumes)).square().flatten(1).mean(1)


class Twice(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, volumes):
        return self.layer(torch.tanh(self.layer(volumes))).square().flatten(1).mean(1)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight = self.first.weight

    def forward(self, volumes):
        return self.second(torch.tanh(self.first(volumes))).square().flatten(1).mean(1)


class Residual(nn.Module):
    """In-place additions and ReLUs directly behind the layers, as in MONAI's networks."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv3d(2, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm3d(4), nn.ReLU(inplace=True)

    def forward(self, volumes):
        maps = self.relu(self.first(volumes))
        kept = maps
        maps = self.norm(self.second(maps))
        maps += kept
        return self.relu(maps).square().flatten(1).mean(1)


class Slices(nn.Module):
    """A shared encoder of slices that are folded into the batch, scan by scan or slice by slice."""

    def __init__(self, *, scans_together):
        super().__init__()
        self.scans_together = scans_together
        self.encoder = nn.Conv2d(2, 3, 3, padding=1)
        self.head = nn.Linear(3, 1)

    def forward(self, volumes):
        scans, _, slices = volumes.shape[:3]
        order = (0, 2, 1, 3, 4) if self.scans_together else (2, 0, 1, 3, 4)
        maps = functional.elu(self.encoder(volumes.permute(order).flatten(0, 1))).mean((2, 3))
        shape = (scans, slices) if self.scans_together else (slices, scans)
        return self.head(torch.unflatten(maps, 0, shape).mean(1 if self.scans_together else 0)).flatten()


class Scaled(nn.Module):
    """A parameter of the user's own module, which has no kernel."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.5, 2, 5))

    def forward(self, volumes):
        return volumes * self.scale


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.norm = nn.LayerNorm(6)

    def forward(self, volumes):
        mixed, _ = self.attention(volumes, volumes, volumes, need_weights=False)
        return self.norm(mixed + volumes).pow(3).flatten(1).mean(1)


def volumes_of(*shape):
    return torch.randn(len(AGES), *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def with_statistics(norm):
    generator = torch.Generator().manual_seed(3)
    norm.running_mean.normal_(generator=generator)
    norm.running_var.uniform_(0.5, 2, generator=generator)
    return norm


KNOWN = {
    "linear": (lambda: nn.Linear(5, 3), (5,)),
    "linear over more axes, no bias": (lambda: nn.Linear(5, 3, bias=False), (4, 2, 5)),
    "wide linear over few positions": (lambda: nn.Linear(40, 30), (2, 40)),
    "conv1d stride": (lambda: nn.Conv1d(2, 3, 3, stride=2, padding=1), (2, 11)),
    "conv2d groups": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=(1, 0)), (4, 7, 8)),
    "conv2d same": (lambda: nn.Conv2d(2, 3, (3, 5), padding="same"), (2, 7, 8)),
    "conv2d circular": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 7, 8)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 3, padding=1), (2, 7, 8, 9)),
    "conv3d prime depth, large": (lambda: nn.Conv3d(1, 2, 3, padding=1), (1, 11, 12, 13)),
    "conv3d even depth, large": (lambda: nn.Conv3d(2, 3, 3, padding=1), (2, 12, 10, 9)),
    "conv3d valid, uneven kernel": (lambda: nn.Conv3d(2, 3, (3, 2, 1)), (2, 12, 10, 9)),
    "conv3d many channels on a small map": (lambda: nn.Conv3d(96, 80, 3, padding=1), (96, 2, 3, 2)),
    "conv3d pointwise": (lambda: nn.Conv3d(3, 4, 1), (3, 4, 5, 6)),
    "conv3d pointwise stride": (lambda: nn.Conv3d(3, 4, 1, stride=2), (3, 4, 5, 6)),
    "conv3d dilation": (lambda: nn.Conv3d(2, 3, 3, dilation=2, padding=1, bias=False), (2, 7, 8, 9)),
    "conv3d depthwise": (lambda: nn.Conv3d(3, 3, 3, groups=3, padding=1), (3, 7, 8, 9)),
    "transposed conv1d": (lambda: nn.ConvTranspose1d(2, 3, 3, stride=2, output_padding=1), (2, 7)),
    "transposed conv2d": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), (4, 5, 6)),
    "transposed conv3d": (lambda: nn.ConvTranspose3d(2, 3, 2, stride=2), (2, 3, 4, 5)),
    "instance norm": (lambda: nn.InstanceNorm3d(2, affine=True), (2, 3, 4, 5)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (4, 3, 5)),
    "layer norm": (lambda: nn.LayerNorm((4, 5)), (3, 4, 5)),
    "layer norm without bias": (lambda: nn.LayerNorm(5, bias=False), (3, 5)),
    "batch norm": (lambda: with_statistics(nn.BatchNorm3d(2)), (2, 3, 4, 5)),
}
FALLING_BACK = {
    "parametric relu": (lambda: nn.PReLU(3), (3, 4, 5), "PReLU"),
    "own parameter": (Scaled, (3, 5), "Scaled"),
}


def check_against_loop(model, volumes):
    """Compare norms, gradients, projection and inner products; return the fallbacks."""
    model = model.double().eval()
    predictions, loop = gradient_loop(model, volumes, AGES)
    names = tuple(name for name, _ in model.named_parameters())
    towards = {name: torch.randn_like(p.detach()) for name, p in model.named_parameters()}
    whole = Request(names, norms=True, projection=7, projection_seed=4, directions={"update": towards})
    only_norms = Request(norms=True)
    asked = [Extractor(model, r, volumes=volumes, ages=AGES) for r in (whole, only_norms)]
    found, light = (extractor(volumes, AGES) for extractor in asked)
    torch.testing.assert_close(found.prediction, predictions)
    for row, scan in enumerate(loop):
        norms = torch.stack([scan[name].norm() for name in names])
        tolerance = {"rtol": 0, "atol": 1e-10 * norms.max().item()}
        torch.testing.assert_close(found.norms[row], norms, **tolerance)
        torch.testing.assert_close(light.norms[row], norms, rtol=0, atol=1e-6 * norms.max().item())
        for name in names:
            torch.testing.assert_close(found.gradients[name][row], scan[name], **tolerance)
        product = sum((scan[name] * towards[name]).sum() for name in names)
        torch.testing.assert_close(found.products["update"][row], product)
        folded = torch.zeros(7, dtype=torch.float64)
        for name in names:
            flat = scan[name].flatten() * signs(name, scan[name].numel(), 4)
            for k, value in enumerate(flat):
                folded[k % 7] += value
        torch.testing.assert_close(found.projection[row], folded)
    return asked[0].fallbacks


@pytest.mark.parametrize("kind", list(KNOWN))
def test_known_layers_agree_with_the_loop_and_need_no_fallback(kind):
    make, shape = KNOWN[kind]
    torch.manual_seed(1)
    assert check_against_loop(ReadOut(make()), volumes_of(*shape)) == {}


@pytest.mark.parametrize("kind", list(FALLING_BACK))
def test_unknown_layers_agree_with_the_loop_and_are_named(kind):
    make, shape, name = FALLING_BACK[kind]
    fallbacks = check_against_loop(ReadOut(make()), volumes_of(*shape))
    assert fallbacks
    assert all(name in reason for reason in fallbacks.values())


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: Twice(nn.Conv3d(2, 2, 3, padding=1)), (2, 4, 5, 6)),
        (lambda: Twice(nn.Linear(5, 5)), (3, 5)),
        (Residual, (2, 4, 5, 6)),
        (lambda: Slices(scans_together=True), (2, 4, 5, 6)),
        (lambda: Slices(scans_together=False), (2, 4, 5, 6)),
    ],
    ids=["conv twice", "linear twice", "residual in place", "slices of a scan", "scans of a slice"],
)
def test_reused_in_place_and_folded_layers_agree_with_the_loop(make, shape):
    torch.manual_seed(1)
    assert check_against_loop(make(), volumes_of(*shape)) == {}


def test_tied_weights_agree_with_the_loop():
    torch.manual_seed(1)
    check_against_loop(Tied(), volumes_of(3, 5))


def test_attention_falls_back_and_the_norm_behind_it_does_not():
    torch.manual_seed(1)
    fallbacks = check_against_loop(Attention(), volumes_of(4, 6))
    assert {name.split(".")[0] for name in fallbacks} == {"attention"}


def test_other_losses_are_differentiated():
    torch.manual_seed(1)
    model = ReadOut(nn.Conv3d(2, 3, 3, padding=1)).double().eval()
    volumes = volumes_of(2, 4, 5, 6)

    def huber(output, ages):
        return functional.huber_loss(output, ages, reduction="none", delta=0.5)

    found = Extractor(model, Request(norms=True), volumes=volumes, ages=AGES, loss=huber)(volumes, AGES)
    for row in range(len(AGES)):
        loss = huber(model(volumes[row : row + 1]), AGES[row : row + 1]).sum()
        expected = torch.stack([g.norm() for g in torch.autograd.grad(loss, list(model.parameters()))])
        torch.testing.assert_close(found.loss[row], loss.detach())
        torch.testing.assert_close(found.norms[row], expected)


def test_the_model_is_left_as_it_was_even_when_its_forward_pass_raises():
    model = Residual().double().eval()
    model.second.weight.requires_grad_(False)
    volumes = volumes_of(2, 4, 5, 6)
    extractor = Extractor(model, Request(norms=True), volumes=volumes, ages=AGES)
    with pytest.raises(RuntimeError):
        extractor(volumes[:, :1], AGES)
    assert [p.requires_grad for p in model.parameters()].count(False) == 1
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.is_grad_enabled()
