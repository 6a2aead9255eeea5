"""The paper's two networks with weights that a run trained, for whoever holds a snapshot alone.

A snapshot (``snapshots/TARGET/epoch-0030.safetensors`` of a run folder) holds what the network was built
with: its width shows in the numbers of channels, and the constants of a scaled head are among the tensors.
Only the grid and, for slice-mean, the axis of the slices are not in it.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from privoxel.errors import ModelError
from privoxel.models.base import AuditableModel, ModelSpec
from privoxel.models.cnn3d import CNN3D
from privoxel.models.slice_mean import SliceMean
from privoxel.models.weights import load_into, peeled

CHANNELS = {"conv1": 32, "conv2": 64, "conv3": 128, "conv4": 256, "conv5": 256, "conv6": 64}
"""Output channels at width 1, of both networks (Gupta et al. 2021, A.3)."""
MEAN_AGE, SCALE = "age.mean_age", "age.scale"


def cnn3d(weights: Mapping[str, Tensor], grid: Sequence[int]) -> AuditableModel:
    """Return the 3D-CNN with ``weights`` of a run, for volumes of ``grid`` voxels along x, y and z.

    Raises:
        ModelError: if they are not weights of such a network.
    """
    own = _own_names(weights, "cnn3d")
    return _loaded(CNN3D(_spec("cnn3d", own), grid, _mean_age(own)), own)


def slice_mean(weights: Mapping[str, Tensor], grid: Sequence[int], axis: int = 0) -> AuditableModel:
    """Return the 2D-slice-mean with ``weights`` of a run, for volumes of ``grid`` voxels along x, y and z.

    ``axis`` is that of the run's settings: 0 for sagittal slices, 1 for coronal, 2 for axial ones.

    Raises:
        ModelError: if they are not weights of such a network.
    """
    own = _own_names(weights, "slice-mean")
    return _loaded(SliceMean(_spec("slice-mean", own, axis), grid, _mean_age(own)), own)


def slice_mean_coronal(weights: Mapping[str, Tensor], grid: Sequence[int]) -> AuditableModel:
    """Return the 2D-slice-mean of a run with ``axis = 1``."""
    return slice_mean(weights, grid, 1)


def slice_mean_axial(weights: Mapping[str, Tensor], grid: Sequence[int]) -> AuditableModel:
    """Return the 2D-slice-mean of a run with ``axis = 2``."""
    return slice_mean(weights, grid, 2)


def width_of(channels: Mapping[str, int]) -> float:
    """Return the width at which layers have these numbers of channels, which are rounded.

    >>> width_of({"conv1": 8, "conv5": 64})
    0.25
    """
    least = max((count - 0.5) / CHANNELS[layer] if count > 1 else 0.0 for layer, count in channels.items())
    most = min((count + 0.5) / CHANNELS[layer] for layer, count in channels.items())
    return (least + most) / 2


def _own_names(weights: Mapping[str, Tensor], name: str) -> Mapping[str, Tensor]:
    """Return ``weights`` by the names of the network's own tensors.

    Raises:
        ModelError: if layers are missing.
    """
    for named in peeled(dict(weights)):
        if all(f"{layer}.weight" in named for layer in (*CHANNELS, "output")):
            return named
    raise ModelError(
        f"{name} needs weights of a network that privoxel trained ({', '.join(CHANNELS)}, output), got "
        f"{', '.join(list(weights)[:4]) or 'none'} … Give a snapshot of a run."
    )


def _spec(name: str, weights: Mapping[str, Tensor], axis: int = 0) -> ModelSpec:
    width = width_of({layer: len(weights[f"{layer}.weight"]) for layer in CHANNELS})
    if SCALE not in weights:
        return ModelSpec(name, width=width, axis=axis)
    return ModelSpec(name, width=width, axis=axis, head="scaled", scale=float(weights[SCALE]))


def _mean_age(weights: Mapping[str, Tensor]) -> float:
    """Return the mean age that a scaled head adds; with the paper's head it is within the bias."""
    return float(weights[MEAN_AGE]) if MEAN_AGE in weights else 0.0


def _loaded(net: AuditableModel, weights: Mapping[str, Tensor]) -> AuditableModel:
    load_into(net, weights, source="The snapshot")
    return net.eval()
