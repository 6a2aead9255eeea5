"""Which device computes, and whether its bfloat16 can be trusted.

Some CPU kernels return a non-finite or absurd bfloat16 weight gradient for 3-D convolutions on maps of a
few voxels, where both networks end; so float32 is the rule on CPUs, and elsewhere bfloat16 is used only
after its kernel has been compared with float32.
"""

from collections.abc import Callable
from enum import StrEnum

import torch
from torch import Tensor

from privoxel.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")
CHECK_DRAWS = 40
CHECK_CHANNELS = 16
CHECK_MAP = (2, 3, 2)
CHECK_TOLERANCE = 0.02  # relative; sound kernels differ by about 0.004

WeightGradient = Callable[[Tensor, Tensor, Tensor], Tensor]


class Precision(StrEnum):
    """The number format of a forward pass; weights and losses are always float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called ``name``; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: for another name, or for ``cuda`` where there is none.
    """
    if name not in DEVICES:
        raise ConfigError(f"device needs one of {', '.join(DEVICES)}, got {name!r}. Choose one of them.")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("device 'cuda' needs a CUDA device, got none. Use device = 'auto' or 'cpu'.")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def choose_precision(device: torch.device) -> Precision:
    """Return float32 on CPUs, and bfloat16 elsewhere if its kernels pass the self-check."""
    if device.type == "cpu" or not bf16_is_sound(device):
        return Precision.FLOAT32
    return Precision.BFLOAT16


def conv3d_weight_gradient(maps: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    """Return the weight gradient of a padded 3³ convolution, from the kernel that training uses."""
    leaf = weight.detach().requires_grad_()
    with torch.enable_grad():
        out = torch.nn.functional.conv3d(maps, leaf, padding=1)
    (result,) = torch.autograd.grad(out, leaf, gradient)
    return result


def bf16_is_sound(
    device: torch.device, *, kernel: WeightGradient = conv3d_weight_gradient, draws: int = CHECK_DRAWS
) -> bool:
    """Return whether bfloat16 weight gradients on tiny maps agree with float32 in every one of ``draws``.

    Args:
        device: where to check.
        kernel: weight gradient from maps (8, c, 2, 3, 2), weight (c, c, 3, 3, 3) and output gradient.
        draws: random inputs to try; a broken kernel failed in about a third of them.
    """
    generator = torch.Generator().manual_seed(0)
    return all(_agrees(device, kernel, generator) for _ in range(draws))


def _agrees(device: torch.device, kernel: WeightGradient, generator: torch.Generator) -> bool:
    c = CHECK_CHANNELS
    shapes = ((8, c, *CHECK_MAP), (c, c, 3, 3, 3), (8, c, *CHECK_MAP))
    half = [torch.randn(shape, generator=generator).to(device, torch.bfloat16) for shape in shapes]
    # The reference reads the rounded inputs, so that only the kernel can differ.
    expected = conv3d_weight_gradient(*(tensor.float() for tensor in half))
    error = torch.linalg.vector_norm(kernel(*half).float() - expected)
    return bool(error <= CHECK_TOLERANCE * torch.linalg.vector_norm(expected))
