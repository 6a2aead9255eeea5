"""What to compute of each scan in one pass, and what comes back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, final

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""From what the model returned and the true values (scans, ...), such as ages, to one loss per scan."""


def squared_error(output: Tensor, ages: Tensor) -> Tensor:
    """Return (prediction - age)² per scan in years², the training loss of Gupta et al. 2021."""
    return (output.flatten() - ages.to(output)).square()


@final
@dataclass(frozen=True)
class Request:
    """What is wanted of each scan beside its prediction and loss.

    ``gradients`` names parameter tensors whose whole gradients are returned; ``norms`` asks for the L2 norm
    of the gradient of every tensor; ``activations`` names submodules (layers, for the models of the zoo)
    whose outputs are returned; ``projection`` is the number of dimensions that the whole gradient is
    projected to (0: none); ``directions`` maps a name to tensors (by parameter name) whose inner product
    with the gradient is returned, such as a learner's update.
    """

    gradients: tuple[str, ...] = ()
    norms: bool = False
    activations: tuple[str, ...] = ()
    projection: int = 0
    projection_seed: int = 0
    directions: Mapping[str, Mapping[str, Tensor]] = field(default_factory=lambda: MappingProxyType({}))

    def wanted(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the tensors ``names`` whose gradients are needed in any form."""
        return names if self.norms or self.projection else tuple(n for n in names if n in self.whole(names))

    def whole(self, names: tuple[str, ...]) -> frozenset[str]:
        """Return those of the tensors ``names`` whose gradients are needed number by number."""
        if self.projection:
            return frozenset(names)
        towards = (tensor for direction in self.directions.values() for tensor in direction)
        return frozenset((*self.gradients, *towards)) & frozenset(names)


class Signals(NamedTuple):
    """What one pass gives of each scan, scans first.

    ``prediction`` is what the model returned, without an axis of one value (years for a scalar head);
    ``loss`` (scans,); ``gradients`` by tensor name (scans, *shape); ``norms`` (scans, tensors) in the order
    of ``named_parameters``; ``activations`` by layer; ``projection`` (scans, dimensions); ``products`` by
    direction (scans,). None where nothing was asked.
    """

    prediction: Tensor
    loss: Tensor
    gradients: dict[str, Tensor]
    norms: Tensor | None
    activations: dict[str, Tensor]
    projection: Tensor | None
    products: dict[str, Tensor]
