import pytest
import torch

from privoxel.errors import ConfigError
from privoxel.training.device import (
    Precision,
    bf16_is_sound,
    choose_device,
    choose_precision,
    conv3d_weight_gradient,
)

CPU = torch.device("cpu")


def exact(maps, weight, gradient):
    """A sound kernel: float32 inside, rounded to bfloat16 at the end."""
    return conv3d_weight_gradient(maps.float(), weight.float(), gradient.float()).bfloat16()


def planted(fault, every):
    """A kernel that is sound except in one draw of ``every``."""
    calls = []

    def kernel(maps, weight, gradient):
        calls.append(1)
        result = exact(maps, weight, gradient)
        return fault(result) if len(calls) % every == 0 else result

    return kernel


def test_a_sound_kernel_passes():
    assert bf16_is_sound(CPU, kernel=exact)


@pytest.mark.parametrize(
    "fault",
    [lambda g: g * float("nan"), lambda g: g * float("inf"), lambda g: g + 1e36, lambda g: g * 1.05],
    ids=["nan", "inf", "huge", "five percent"],
)
@pytest.mark.parametrize("every", [1, 3, 40])
def test_a_planted_bad_kernel_is_detected_even_if_it_fails_rarely(fault, every):
    assert not bf16_is_sound(CPU, kernel=planted(fault, every))


def test_this_machines_kernel_is_judged_as_an_independent_comparison_judges_it():
    generator = torch.Generator().manual_seed(11)
    worst = 0.0
    for _ in range(60):
        shapes = ((8, 16, 2, 3, 2), (16, 16, 3, 3, 3), (8, 16, 2, 3, 2))
        inputs = [torch.randn(s, generator=generator).bfloat16() for s in shapes]
        difference = (conv3d_weight_gradient(*inputs).float() - exact(*inputs).float()).norm()
        worst = max(worst, float(torch.nan_to_num(difference / exact(*inputs).float().norm(), nan=1e9)))
    assert bf16_is_sound(CPU) == (worst < 0.02)


def test_the_reference_gradient_is_that_of_the_definition():
    maps, weight = torch.randn(2, 1, 2, 3, 2), torch.randn(1, 1, 3, 3, 3)
    gradient = torch.randn(2, 1, 2, 3, 2)
    padded = torch.nn.functional.pad(maps, (1,) * 6)
    by_hand = torch.stack(
        [
            (padded[:, 0, i : i + 2, j : j + 3, k : k + 2] * gradient[:, 0]).sum()
            for i in range(3)
            for j in range(3)
            for k in range(3)
        ]
    ).view(1, 1, 3, 3, 3)
    torch.testing.assert_close(conv3d_weight_gradient(maps, weight, gradient), by_hand, rtol=1e-4, atol=1e-4)


def test_cpus_compute_in_float32():
    assert choose_precision(CPU) is Precision.FLOAT32


def test_devices_are_chosen_by_name_and_refused_by_name():
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match="one of auto, cpu, cuda, got 'tpu'"):
        choose_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_a_cuda_device_says_what_to_do():
    with pytest.raises(ConfigError, match=r"needs a CUDA device, got none\. Use device = 'auto' or 'cpu'"):
        choose_device("cuda")
