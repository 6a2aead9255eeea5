"""The networks of the paper's attack (Gupta et al. 2021, appendix C) and their training.

Every feature has its own encoder into 64 numbers; the embeddings are concatenated → dropout → one linear
layer → logit. The encoders of conv 6 and of the slice-mean net's hidden layer are convolutional and exact at
the paper's width (maps 16×6×6, 128×14 and 64×4); on smaller maps each kernel and each pool is clipped to
what is left of the map. This is the one attack module that may import torch.
"""

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from privoxel.arrays import BoolArray, FloatArray
from privoxel.attacks.architecture import BLOCKS, EMBEDDING, Branch, Encoder, Schedule
from privoxel.seeding import torch_stream

Tail = nn.Module
SCORING_BATCH = 256


class Fitted(NamedTuple):
    """Logits of the target scans, and the epoch (from 1) whose weights gave them."""

    logits: FloatArray
    best_epoch: int


class Sample(NamedTuple):
    """Tensors of some scans: one per feature, membership as 0/1 and a weight that balances the classes."""

    inputs: tuple[Tensor, ...]
    labels: Tensor
    weights: Tensor

    def rows(self, rows: Tensor) -> "Sample":
        """Return a copy of the scans at ``rows``."""
        return Sample(tuple(x[rows] for x in self.inputs), self.labels[rows], self.weights[rows])


def encoder(kind: Encoder, shape: Sequence[int]) -> nn.Sequential:
    """Return the paper's encoder of ``kind`` for inputs of ``shape``, without the scan axis.

    >>> sum(p.numel() for p in encoder(Encoder.IMAGE, (1, 256, 64)).parameters())
    83728
    """
    if kind is Encoder.FLAT:
        return nn.Sequential(nn.Linear(math.prod(shape), EMBEDDING), nn.ReLU())
    blocks, channels, size = convolutions(kind, shape)
    if kind is Encoder.IMAGE:
        _channels_last(blocks)
    layers = [blocks, nn.Flatten(), nn.Linear(channels * math.prod(size), EMBEDDING)]
    if kind is Encoder.IMAGE:  # the paper prints a ReLU after this linear layer and none after the others
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _channels_last(blocks: nn.Module) -> None:
    """Store the kernels channels last: the same numbers, and twice as fast on a CPU."""
    for layer in blocks.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)


class Convolutions(NamedTuple):
    """The convolutional part of an encoder and the channels and size of the map it ends on."""

    layers: nn.Sequential
    channels: int
    size: tuple[int, ...]


def convolutions(kind: Encoder, shape: Sequence[int]) -> Convolutions:
    """Return the blocks of ``kind`` for inputs of ``shape`` (channels, lengths), clipped to the map."""
    is_sequence = len(shape) == 2
    conv: Any = nn.Conv1d if is_sequence else nn.Conv2d
    pool: Any = nn.MaxPool1d if is_sequence else nn.MaxPool2d
    layers: list[nn.Module] = []
    channels, size = shape[0], tuple(shape[1:])
    for block in BLOCKS[kind]:
        kernel = tuple(min(k, s + 2 * block.padding) for k, s in zip(block.kernel, size, strict=True))
        size = tuple(s + 2 * block.padding - k + 1 for s, k in zip(size, kernel, strict=True))
        window = tuple(min(p, s) for p, s in zip(block.pool, size, strict=True))
        size = tuple(s // p for s, p in zip(size, window, strict=True))
        layers += [conv(channels, block.channels, kernel, padding=block.padding), pool(window), nn.ReLU()]
        channels = block.channels
    return Convolutions(nn.Sequential(*layers), channels, size)


@final
class AttackNet(nn.Module):
    """Encoders → concatenation → dropout → linear → one logit per scan."""

    def __init__(self, encoders: Sequence[nn.Module], dropout: float) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(EMBEDDING * len(encoders), 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return logits, one per scan; positive = member."""
        embeddings = [encode(x) for encode, x in zip(self.encoders, inputs, strict=True)]
        return self.head(self.dropout(torch.cat(embeddings, dim=1))).squeeze(1)


@final
class TailNet(nn.Module):
    """A copy of the target's later layers, its outputs centred and scaled → dropout → linear → one logit.

    An embedding after InstanceNorm is nearly constant and an age lies near 60 years: without the scaling, by
    the outputs of the untouched copy on the scans to train on, the head would learn their offset for long.
    """

    def __init__(self, tail: nn.Module, activations: Tensor, dropout: float) -> None:
        super().__init__()
        self.tail = copy.deepcopy(tail).to("cpu", torch.float32).requires_grad_(True).eval()
        outputs = _scored(self.tail, (activations,)).reshape(len(activations), -1)
        sd = outputs.std(dim=0, correction=0)
        self.centre: Tensor
        self.scale: Tensor
        self.register_buffer("centre", outputs.mean(dim=0))
        # a unit that is silent at first may wake up: it gets the largest scale, not a division by zero
        self.register_buffer("scale", torch.where(sd > 1e-3 * sd.max(), sd, sd.max().clamp_min(1e-6)))
        width = outputs.shape[1]
        self.dropout = nn.Dropout(dropout if width > 1 else 0.0)
        self.head = nn.Linear(width, 1)

    def forward(self, activations: Tensor) -> Tensor:
        """Return logits, one per scan; positive = member."""
        outputs = self.tail(activations).reshape(len(activations), -1)
        return self.head(self.dropout((outputs - self.centre) / self.scale)).squeeze(1)


def encoder_logits(
    branches: Sequence[Branch], members: BoolArray, *, validation: BoolArray, schedule: Schedule, seed: int
) -> Fitted:
    """Return the logits of the target scans from a network trained on the leaked ones.

    Args:
        branches: one per feature, standardised.
        members: membership of the leaked scans.
        validation: leaked scans that choose the epoch and are not trained on.
        schedule: optimiser settings and dropout.
        seed: seed of the initial weights, the order of scans and the dropout.
    """
    leaked = tuple(_tensor(branch.leaked) for branch in branches)
    target = tuple(_tensor(branch.target) for branch in branches)
    with torch_stream(seed), _one_thread():
        encoders = [encoder(branch.encoder, branch.leaked.shape[1:]) for branch in branches]
        network = AttackNet(encoders, schedule.dropout)
        best_epoch = _train(network, leaked, members, validation, schedule)
        return _fitted(network, target, best_epoch)


def tail_logits(
    tail: nn.Module,
    branch: Branch,
    members: BoolArray,
    *,
    validation: BoolArray,
    schedule: Schedule,
    seed: int,
) -> Fitted:
    """Return the logits of the target scans from a fine-tuned copy of the target's later layers.

    ``branch`` holds activations as the target made them, scans × channels × x × y × z; ``tail`` maps them to
    an embedding (or to ages) and is left as it was. See ``encoder_logits`` for the other arguments.
    """
    leaked = (_tensor(branch.leaked),)
    with torch_stream(seed), _one_thread():
        network = TailNet(tail, leaked[0][torch.from_numpy(~validation)], schedule.dropout)
        best_epoch = _train(network, leaked, members, validation, schedule)
        return _fitted(network, (_tensor(branch.target),), best_epoch)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Run a block on one thread, so that logits do not depend on how many an attack happens to get."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _tensor(values: npt.NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _fitted(network: nn.Module, inputs: tuple[Tensor, ...], best_epoch: int) -> Fitted:
    return Fitted(_scored(network.eval(), inputs).numpy().astype(np.float64), best_epoch)


@torch.no_grad()
def _scored(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return the outputs for all scans, in batches that bound the memory of the largest encoder."""
    starts = range(0, len(inputs[0]), SCORING_BATCH)
    # cloned because a copied layer may work in place
    batches = ([x[start : start + SCORING_BATCH].clone() for x in inputs] for start in starts)
    return torch.cat([network(*batch) for batch in batches])


def _train(
    network: nn.Module,
    leaked: tuple[Tensor, ...],
    members: BoolArray,
    validation: BoolArray,
    schedule: Schedule,
) -> int:
    """Train ``network`` in place, leave the weights of the best validation loss, return that epoch."""
    train, held_out = _sample(leaked, members, ~validation), _sample(leaked, members, validation)
    optimiser = torch.optim.Adam(network.parameters(), lr=schedule.learning_rate, fused=True)
    best_loss, best_epoch, best_weights = math.inf, 0, copy.deepcopy(network.state_dict())
    epochs, patience = schedule.limits(int((~validation).sum()))
    for epoch in range(1, epochs + 1):
        _one_epoch(network.train(), train, optimiser, schedule.batch)
        loss = float(_loss(_scored(network.eval(), held_out.inputs), held_out))
        if loss < best_loss:
            best_loss, best_epoch, best_weights = loss, epoch, copy.deepcopy(network.state_dict())
        if epoch - best_epoch >= patience:
            break
    network.load_state_dict(best_weights)
    return best_epoch


def _sample(inputs: tuple[Tensor, ...], members: BoolArray, chosen: BoolArray) -> Sample:
    """Return the ``chosen`` scans, weighted so that members and non-members count the same."""
    rows = torch.from_numpy(np.flatnonzero(chosen))
    labels = members[chosen]
    weights = np.where(labels, 0.5 / max(labels.mean(), 1e-9), 0.5 / max((~labels).mean(), 1e-9))
    return Sample(tuple(x[rows] for x in inputs), _tensor(labels.astype(np.float32)), _tensor(weights))


def _one_epoch(network: nn.Module, train: Sample, optimiser: torch.optim.Optimizer, batch: int) -> None:
    order = torch.randperm(len(train.labels))
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    if len(batches) > 1 and len(batches[-1]) == 1:  # a copied BatchNorm cannot train on one scan
        batches[-2:] = [torch.cat(batches[-2:])]
    for rows in batches:
        sample = train.rows(rows)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(_loss(network(*sample.inputs), sample))
        optimiser.step()


def _loss(logits: Tensor, sample: Sample) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, sample.labels, weight=sample.weights)
