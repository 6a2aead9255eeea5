"""The networks by name, and the one function that builds them."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from privoxel.config import ModelConfig
from privoxel.errors import ModelError
from privoxel.models.adapted import WhiteBox
from privoxel.models.base import AuditableModel, ModelSpec
from privoxel.models.cnn3d import CNN3D
from privoxel.models.heads import Gaussian, Scalar, SoftBins
from privoxel.models.several import Several
from privoxel.models.slice_mean import SliceMean
from privoxel.seeding import torch_stream

__all__ = [
    "MODELS",
    "AuditableModel",
    "Gaussian",
    "ModelSpec",
    "Scalar",
    "Several",
    "SoftBins",
    "WhiteBox",
    "build_model",
    "spec_of",
]

MODELS: Mapping[str, Callable[[ModelSpec, Sequence[int], float], AuditableModel]] = MappingProxyType(
    {"cnn3d": CNN3D, "slice-mean": SliceMean}
)


def build_model(spec: ModelSpec, grid_shape: Sequence[int], mean_age: float, seed: int) -> AuditableModel:
    """Return the network that ``spec`` names, with initial weights that depend on ``seed`` only.

    >>> model = build_model(ModelSpec("cnn3d"), (40, 48, 40), 62.6, seed=1)
    >>> model.poolings, model.map_shape
    (4, (2, 3, 2))

    Args:
        spec: the network and its choices.
        grid_shape: voxels along x, y and z.
        mean_age: mean age of the training participants in years; where the output starts.
        seed: of the initial weights.

    Raises:
        ModelError: for an unknown name or a grid that is not three axes or too small.
    """
    if spec.name not in MODELS:
        raise ModelError(
            f"Model {spec.name!r}: needs one of {', '.join(MODELS)}. Choose one of them in the settings."
        )
    if len(grid_shape) != 3:
        raise ModelError(
            f"Model {spec.name!r}: needs a grid of three axes, got {tuple(grid_shape)}. "
            "Give the voxels along x, y and z."
        )
    with torch_stream(seed):
        return MODELS[spec.name](spec, tuple(grid_shape), mean_age)


def spec_of(settings: ModelConfig) -> ModelSpec:
    """Return the network that a ``[[models]]`` or ``[model]`` section describes."""
    return ModelSpec(**settings.model_dump(include={"name", "width", "head", "scale", "dropout", "axis"}))
