"""What every network of the registry promises."""

import copy
import io

import pytest
import torch

from privoxel.errors import ModelError
from privoxel.models import MODELS, ModelSpec, build_model
from privoxel.models.base import to_memory_format

GRID = (18, 13, 10)


@pytest.fixture(params=list(MODELS))
def name(request):
    return request.param


def build(name, *, seed=5, grid=GRID, **fields):
    return build_model(ModelSpec(name, width=0.1, **fields), grid, 61.5, seed)


def volumes(count=3, grid=GRID):
    return torch.randn(count, 1, *grid, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("head", ["paper", "scaled"])
def test_one_finite_age_per_scan(name, head):
    ages = build(name, head=head).eval()(volumes())
    assert ages.shape == (3,)
    assert ages.isfinite().all()


def test_a_scan_alone_has_the_age_it_has_in_a_batch(name):
    model = build(name).eval()
    together = model(volumes())
    alone = torch.cat([model(one[None]) for one in volumes()])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-4)


def test_weights_depend_on_the_seed_only_and_global_randomness_is_left_alone(name):
    before = torch.random.get_rng_state()
    first, again, other = build(name), build(name), build(name, seed=6)
    assert torch.equal(torch.random.get_rng_state(), before)
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    assert not torch.equal(first.get_parameter("conv2.weight"), other.get_parameter("conv2.weight"))


def test_layers_name_submodules_and_hold_all_parameters(name):
    model = build(name)
    expected = [f"{layer}.{kind}" for layer in model.layers for kind in ("weight", "bias")]
    assert [key for key, _ in model.named_parameters()] == expected
    assert {model.first_conv, model.last_conv, *model.head_layers} <= set(model.layers)


def test_activations_are_block_outputs_scans_first(name):
    model = build(name).eval()
    found = model.activations(volumes(), model.layers)
    assert set(found) == set(model.layers)
    assert all(len(maps) == 3 for maps in found.values())
    assert all((maps >= 0).all() for layer, maps in found.items() if layer in ("conv1", "conv5", "conv6"))
    assert torch.equal(found["output"].flatten(), model(volumes()))


def test_asking_for_an_unknown_layer_names_the_layers(name):
    with pytest.raises(ModelError, match=r"layers among conv1, .*, got conv9, pool"):
        build(name).activations(volumes(), ("conv1", "conv9", "pool"))


def test_a_tail_continues_the_forward_pass_to_the_embedding(name):
    model = build(name).eval()
    for layer in model.layers[: model.layers.index(model.embedded_by) + 1]:
        maps = model.activations(volumes(), (layer, model.embedded_by))
        torch.testing.assert_close(model.tail(layer)(maps[layer]), maps[model.embedded_by].flatten(1))


def test_a_tail_is_a_copy_without_the_earlier_layers_and_the_output(name):
    model = build(name)
    tail = model.tail("conv5")
    held = {key.split(".")[1] for key, _ in tail.named_parameters()}
    start, stop = model.layers.index("conv5") + 1, model.layers.index(model.embedded_by) + 1
    assert held == set(model.layers[start:stop])
    with torch.no_grad():
        next(tail.parameters()).fill_(9.0)
    assert model.get_parameter("conv6.weight").max() < 9.0
    with pytest.raises(ModelError, match="a tail needs a layer up to"):
        model.tail("output")


def test_every_parameter_but_biases_before_a_norm_gets_a_gradient(name):
    model = build(name, head="scaled").double().train()
    model(volumes().double()).sum().backward()
    largest = max(p.grad.abs().max().item() for p in model.parameters())
    structural = {f"conv{k}.bias" for k in range(1, 7)}
    for key, parameter in model.named_parameters():
        assert (parameter.grad.abs().max() < 1e-9 * largest) == (key in structural), key


def test_fused_blocks_change_neither_ages_nor_gradients(name):
    grid = (9, 13, 18)
    model = build(name, grid=grid).double().eval()
    results = []
    for fused in (True, False):
        model.fused = fused
        model.zero_grad()
        ages = model(volumes(2, grid).double())
        ages.sum().backward()
        results.append([ages.detach(), *(p.grad.clone() for p in model.parameters())])
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, rtol=0, atol=1e-12)


def test_memory_format_changes_rounding_only(name):
    model = build(name).double().eval()
    before = model(volumes().double())
    to_memory_format(model, None, "channels_last")
    torch.testing.assert_close(model(volumes().double()), before, rtol=0, atol=1e-10)


def test_models_copy_save_and_run_in_inference_mode(name):
    model = build(name, head="scaled").eval()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = build(name, head="scaled", seed=9).eval()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(volumes()), copy.deepcopy(model)(volumes()))


def test_nothing_is_done_in_place(name):
    model, scans = build(name).train(), volumes()
    kept = scans.clone()
    model(scans).sum().backward()
    assert torch.equal(scans, kept)
