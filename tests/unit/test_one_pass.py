import pytest
import torch

from privoxel.errors import ModelError
from privoxel.gradients.one_pass import Extractor
from privoxel.gradients.request import Request
from privoxel.models import MODELS, ModelSpec, build_model
from privoxel.models.base import to_memory_format
from tests.twins.gradient_loop import gradient_loop

AGES = torch.tensor([47.5, 80.25, 62.0, 55.0, 71.0], dtype=torch.float64)
GRIDS = [(7, 8, 9), (13, 10, 18)]


def prepared(name, grid=(7, 8, 9), **fields):
    model = build_model(ModelSpec(name, **{"width": 0.1, "head": "scaled", **fields}), grid, 61.0, 2)
    volumes = torch.randn(
        len(AGES), 1, *grid, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    return model.double().eval(), volumes


def one_pass(model, volumes, ages, names=(), *, norms=True):
    request = Request(gradients=tuple(names), norms=norms)
    return Extractor(model, request, volumes=volumes, ages=ages)(volumes, ages)


def expected_of(model, volumes, ages=AGES):
    predictions, loop = gradient_loop(model, volumes, ages)
    norms = torch.stack([torch.stack([g.norm() for g in scan.values()]) for scan in loop])
    return predictions, loop, norms


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_gradients_norms_and_predictions_agree_with_one_backward_pass_per_scan(name, grid, memory_format):
    model, volumes = prepared(name, grid)
    to_memory_format(model, None, memory_format)
    names = [key for key, _ in model.named_parameters()]
    predictions, loop, norms = expected_of(model, volumes)
    found = one_pass(model, volumes, AGES, names=names)
    torch.testing.assert_close(found.prediction, predictions, rtol=0, atol=1e-9)
    for row, scan in enumerate(loop):
        tolerance = 1e-5 * norms[row].max().item()
        torch.testing.assert_close(found.norms[row], norms[row], rtol=0, atol=tolerance)
        for key, gradient in scan.items():
            torch.testing.assert_close(found.gradients[key][row], gradient, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("fused", [True, False])
def test_float64_agreement_is_to_rounding_not_only_to_the_tolerance(name, fused):
    model, volumes = prepared(name)
    model.fused = fused
    _, _, norms = expected_of(model, volumes)
    found = one_pass(model, volumes, AGES)
    assert ((found.norms - norms).abs().amax(1) < 1e-12 * norms.amax(1)).all()


def test_biases_before_a_norm_are_structural_zeros():
    model, volumes = prepared("cnn3d")
    norms = one_pass(model, volumes, AGES).norms
    zero = torch.tensor(
        [key in {f"conv{k}.bias" for k in range(1, 7)} for key, _ in model.named_parameters()]
    )
    assert int(zero.sum()) == 6
    assert (norms[:, zero] < 1e-9 * norms.amax(1, keepdim=True)).all()
    assert (norms[:, ~zero] > 1e-6 * norms.amax(1, keepdim=True)).all()


@pytest.mark.parametrize("name", list(MODELS))
def test_asking_for_head_and_last_convolution_only_gives_the_same_gradients(name):
    model, volumes = prepared(name)
    names = (f"{model.last_conv}.weight", *(f"{layer}.weight" for layer in model.head_layers))
    everything = one_pass(model, volumes, AGES, names=names)
    some = one_pass(model, volumes, AGES, names=names, norms=False)
    assert some.norms is None
    assert tuple(some.gradients) == names
    for key in names:
        torch.testing.assert_close(some.gradients[key], everything.gradients[key], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("wanted", "is_differentiated"), [("output.weight", False), ("conv1.weight", True)])
def test_layers_below_the_asked_for_ones_are_not_differentiated(wanted, is_differentiated):
    """The second block reads maps without a graph when only the output is asked for."""
    model, volumes = prepared("cnn3d")
    extractor = Extractor(model, Request((wanted,)), volumes=volumes, ages=AGES)
    read = []
    hook = model.conv2.register_forward_pre_hook(lambda _m, inputs: read.append(inputs[0].requires_grad))
    extractor(volumes, AGES)
    hook.remove()
    assert read == [is_differentiated]


def test_the_gradient_of_the_paper_heads_bias_is_twice_the_residual():
    model, volumes = prepared("cnn3d", head="paper")
    found = one_pass(model, volumes, AGES, names=("output.bias",), norms=False)
    expected = 2 * (found.prediction - AGES)
    torch.testing.assert_close(found.gradients["output.bias"].flatten(), expected)


@pytest.mark.parametrize("name", list(MODELS))
def test_batches_do_not_change_the_result(name):
    model, volumes = prepared(name)
    extractor = Extractor(model, Request(("conv6.weight",), norms=True), volumes=volumes, ages=AGES)
    whole = extractor(volumes, AGES)
    for rows in (slice(0, 1), slice(1, 3), slice(2, 5)):
        part = extractor(volumes[rows], AGES[rows])
        torch.testing.assert_close(part.gradients["conv6.weight"], whole.gradients["conv6.weight"][rows])
        torch.testing.assert_close(part.norms, whole.norms[rows])


def test_no_scans_give_empty_arrays_and_nothing_asked_gives_predictions():
    model, volumes = prepared("cnn3d")
    empty = one_pass(model, volumes[:0], AGES[:0], names=("conv6.weight",))
    assert empty.prediction.shape == (0,)
    assert empty.norms.shape == (0, 14)
    assert empty.gradients["conv6.weight"].shape[0] == 0
    only = one_pass(model, volumes, AGES, norms=False)
    torch.testing.assert_close(only.prediction, model(volumes).detach())
    assert only.gradients == {}


def test_the_model_is_left_as_it_was():
    model, volumes = prepared("cnn3d")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = one_pass(model, volumes, AGES, names=("conv1.weight",))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not found.norms.requires_grad
    assert not found.gradients["conv1.weight"].requires_grad


def test_training_mode_and_other_faults_are_listed_at_once():
    model, volumes = prepared("cnn3d")
    model.train()
    with pytest.raises(ModelError, match=r"model\.eval\(\).*got conv9\.weight"):
        one_pass(model, volumes, AGES, names=("conv9.weight",))
    extractor = Extractor(model.eval(), Request(), volumes=volumes, ages=AGES)
    with pytest.raises(ModelError, match="5 scans and 3 ages"):
        extractor(volumes, AGES[:3])


def test_block_outputs_come_from_the_same_pass():
    model, volumes = prepared("cnn3d")
    request = Request(("conv1.weight",), activations=("conv5", "conv2"))
    found = Extractor(model, request, volumes=volumes, ages=AGES)(volumes, AGES).activations
    expected = model.activations(volumes, ("conv5", "conv2"))
    assert set(found) == {"conv5", "conv2"}
    for layer, maps in expected.items():
        torch.testing.assert_close(found[layer], maps.detach())


def test_the_memory_of_a_pass_grows_with_what_is_asked_and_never_with_the_batch_of_others():
    model, volumes = prepared("cnn3d", (13, 10, 18))
    sizes = [
        Extractor(model, request, volumes=volumes, ages=AGES).bytes_per_scan(volumes, AGES)
        for request in (Request(), Request(("output.weight",)), Request(norms=True))
    ]
    first_maps = model.conv1(volumes[:1]).numel() * 8
    assert first_maps < sizes[0] <= sizes[1] < sizes[2]
    again = Extractor(model, Request(), volumes=volumes, ages=AGES).bytes_per_scan(volumes[:2], AGES[:2])
    assert again == sizes[0]
