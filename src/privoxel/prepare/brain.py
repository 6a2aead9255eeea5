"""The one door to deepbet: which voxels of a head are brain (Fisch et al. 2024, doi 10.1002/hbm.26703).

A small 3D U-Net finds the box of the brain, a second one the brain in it; its weights come with the package.
"""

import warnings

import numpy as np

from privoxel.arrays import BoolArray, Float32Array
from privoxel.cohort.preprocess import VolumeError

THRESHOLD = 0.5


def brain_mask(head: Float32Array) -> BoolArray:
    """Return which voxels of a canonical (RAS+) head are brain: one connected part without holes.

    Raises:
        VolumeError: if no brain is found.
    """
    import torch  # noqa: PLC0415 - an extra
    from deepbet import BrainExtraction  # noqa: PLC0415 - an extra

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its weights are TorchScript, which PyTorch calls deprecated
            network = BrainExtraction(no_gpu=True)
            found = network.run_model(head.copy()) > THRESHOLD
            mask = network.postprocess(found) if found.any() else found
    except (AssertionError, ValueError, RuntimeError) as error:
        raise _none() from error
    finally:
        torch.set_num_threads(before)
    if not mask.any():
        raise _none()
    return mask.astype(np.bool_)


def _none() -> VolumeError:
    return VolumeError(
        "shows no brain that can be found",
        "Look at the scan: it must be a T1-weighted head; a brain already extracted needs no preparing",
    )
