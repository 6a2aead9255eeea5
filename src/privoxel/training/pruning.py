"""Pruning: ever more weights are zero, as in the authors' follow-up.

FedSparsify (Stripelis et al. 2022, arXiv 2208.11669): after every round (federated) or epoch (central) the
smallest weights are set to zero, and only those that are left are trained. The share of zeros rises as in
gradual magnitude pruning (Zhu and Gupta 2017, eq. 1): s_t = S (1 − (1 − t / T)³).
"""

import numpy as np
from torch import Tensor, nn

from privoxel.arrays import Float32Array

Weights = dict[str, Float32Array]


def sparsity_at(number: int, rounds: int, final: float) -> float:
    """Return the share of zero weights after round (or epoch) ``number`` of ``rounds``.

    >>> [round(sparsity_at(t, 4, 0.8), 3) for t in range(5)]
    [0.0, 0.463, 0.7, 0.788, 0.8]
    """
    return final * (1.0 - (1.0 - number / rounds) ** 3)


def pruned(weights: Weights, share: float) -> Weights:
    """Return ``weights`` with the ``share`` of smallest magnitudes over all kernels set to zero.

    Only tensors of two or more axes are pruned: biases are few and small.
    """
    kernels = {name: value for name, value in weights.items() if value.ndim > 1}
    magnitudes = np.concatenate([np.abs(value).ravel() for value in kernels.values()])
    count = int(share * magnitudes.size)
    if not count:
        return weights
    limit = np.partition(magnitudes, count - 1)[count - 1]
    return {
        name: np.where(np.abs(value) > limit, value, 0).astype(value.dtype) if name in kernels else value
        for name, value in weights.items()
    }


def kept(model: nn.Module) -> list[tuple[nn.Parameter, Tensor]]:
    """Return the kernels of ``model`` with a mask of the weights that are not zero."""
    return [(parameter, parameter.detach() != 0) for parameter in model.parameters() if parameter.dim() > 1]
