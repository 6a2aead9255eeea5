"""Real models that never saw their "members": small networks on simulated regional volumes, truly trained.

A target is a network of two hidden layers that was trained on people of its own; "members" and "non-members"
are other people, drawn alike or with the members older. Every signal comes from the trained network: its
predictions, the exact gradient of the squared error of each person, hidden activations, predictions on noisy
copies. Reference models are trained by the same recipe on half of the people to be judged, so that each is
inside some and outside others. Many networks are trained at once.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from privoxel.cohort.base import Covariates, ScanId
from privoxel.seeding import torch_stream
from privoxel.signals.table import LazyArray, SignalTable

VOLUMES, FIRST, SECOND, COPIES = 12, 16, 8, 5
MEAN_AGE, SD_AGE = 62.6, 7.4
SITES = ("a", "b", "c")
MEMBERSHIP = {True: 1, False: 0, None: -1}


@dataclass(frozen=True)
class Setting:
    """Sizes of one target's world; ``shift`` is how much older the "members" are (years)."""

    members: int = 120
    non_members: int = 330
    trained_on: int = 60
    references: int = 8
    shadow: int = 30
    steps: int = 80
    shift: float = 0.0


class People(NamedTuple):
    """Volumes (people × regions, standardised) and covariates of some people."""

    volumes: np.ndarray
    age: np.ndarray
    sex: np.ndarray
    site: np.ndarray

    def rows(self, rows: np.ndarray) -> "People":
        return People(*(part[rows] for part in self))


class NullTarget(NamedTuple):
    """Signals of a target on people none of whom trained it, and of its references and its one shadow.

    ``mae``: mean absolute error on the people that did train it and on others (years).
    """

    table: SignalTable
    references: SignalTable
    shadow: SignalTable
    mae: tuple[float, float]


Weights = list[torch.Tensor]
"""Weight and bias of three layers, each with the networks as first axis."""


def draw_people(size: int, older: np.ndarray | float, rng: np.random.Generator) -> People:
    """Return people whose regions shrink with age, some faster when old, and differ by sex and scanner."""
    world = np.random.default_rng(7)  # the same brains everywhere
    slope, bend = world.normal(0.0, 0.55, VOLUMES), world.normal(0.0, 0.2, VOLUMES)
    of_sex, of_site = world.normal(0.0, 0.4, VOLUMES), world.normal(0.0, 0.4, (len(SITES), VOLUMES))
    age = rng.normal(MEAN_AGE, SD_AGE, size).clip(45.0, 80.0) + older
    sex, site = rng.integers(2, size=size), rng.integers(len(SITES), size=size)
    z = (age - MEAN_AGE)[:, None] / SD_AGE
    volumes = slope * z + bend * (z**2 - 1.0) + of_sex * sex[:, None] + of_site[site]
    volumes = volumes + rng.normal(size=(size, VOLUMES))
    return People(volumes, age, np.array(["F", "M"])[sex], np.array(SITES)[site])


def null_targets(setting: Setting, seeds: range) -> list[NullTarget]:
    """Return one target for each of ``seeds``, trained together."""
    rngs = [np.random.default_rng([2026, seed]) for seed in seeds]
    trained = [draw_people(setting.trained_on, 0.0, rng) for rng in rngs]
    size = setting.members + setting.non_members
    older = np.where(np.arange(size) < setting.members, setting.shift, 0.0)
    judged = [draw_people(size, older, rng) for rng in rngs]
    orders = [rng.permutation(size) for rng in rngs]
    targets = train(trained, setting.steps, seeds[0])
    inside = [halves(size, setting.references, rng) for rng in rngs]
    of_references = [
        people.rows(np.flatnonzero(row)) for people, rows in zip(judged, inside, strict=True) for row in rows
    ]
    others = train(of_references, setting.steps, seeds[0] + 1_000_003)
    drawn = [rng.permutation(size)[: 2 * setting.shadow] for rng in rngs]
    shadows = train(
        [p.rows(d[: setting.shadow]) for p, d in zip(judged, drawn, strict=True)],
        setting.steps,
        seeds[0] + 2_000_003,
    )
    found = []
    for k, (people, order, rng) in enumerate(zip(judged, orders, rngs, strict=True)):
        copies = people.volumes + rng.normal(0.0, 0.15, (COPIES, *people.volumes.shape))
        states = np.where(np.arange(size) < setting.members, 1, 0)
        span = slice(k * len(inside[k]), (k + 1) * len(inside[k]))
        states_of_shadow = np.full(size, -1)
        states_of_shadow[drawn[k]] = np.arange(len(drawn[k])) < setting.shadow
        tables = (
            table_of(people, copies, one(targets, slice(k, k + 1)), states[None]),
            table_of(people, copies, one(others, span), inside[k].astype(int)),
            table_of(people, copies, one(shadows, slice(k, k + 1)), states_of_shadow[None]),
        )
        mae = tuple(mean_error(one(targets, slice(k, k + 1)), group) for group in (trained[k], people))
        found.append(NullTarget(*(table.select(order) for table in tables), mae))
    return found


def halves(size: int, models: int, rng: np.random.Generator) -> np.ndarray:
    """Return models × people: everyone inside half of the models, drawn at random."""
    ranks = np.stack([rng.permutation(models) for _ in range(size)])
    return (ranks < models // 2).T


def one(weights: Weights, models: slice) -> Weights:
    return [weight[models] for weight in weights]


def train(groups: list[People], steps: int, seed: int) -> Weights:
    """Return a network for each group of people, all trained at once by Adam on the squared error.

    Groups of unequal size are filled up with people of weight zero.
    """
    longest = max(len(group.age) for group in groups)
    volumes = torch.zeros(len(groups), longest, VOLUMES)
    ages, share = torch.zeros(len(groups), longest), torch.zeros(len(groups), longest)
    for row, group in enumerate(groups):
        n = len(group.age)
        volumes[row, :n] = torch.from_numpy(group.volumes).float()
        ages[row, :n] = torch.from_numpy((group.age - MEAN_AGE) / SD_AGE).float()
        share[row, :n] = 1.0 / n
    sizes = (VOLUMES, FIRST, SECOND, 1)
    with torch_stream(seed):
        weights: Weights = []
        for below, above in pairwise(sizes):
            weights.append(torch.randn(len(groups), above, below) * (2.0 / below) ** 0.5)
            weights.append(torch.zeros(len(groups), above))
    for weight in weights:
        weight.requires_grad_(True)
    optimiser = torch.optim.Adam(weights, lr=0.02)
    for _ in range(steps):
        optimiser.zero_grad(set_to_none=True)
        loss = ((forward(weights, volumes)[-1][..., 0] - ages).square() * share).sum()
        loss.backward()
        optimiser.step()
    return [weight.detach() for weight in weights]


def forward(weights: Weights, volumes: torch.Tensor) -> list[torch.Tensor]:
    """Return both hidden activations and the output (standardised age): networks × people × units."""
    found, values = [], volumes
    for layer in range(3):
        values = torch.baddbmm(weights[2 * layer + 1][:, None], values, weights[2 * layer].transpose(1, 2))
        values = values.relu() if layer < 2 else values
        found.append(values)
    return found


def mean_error(weights: Weights, people: People) -> float:
    outputs = forward(weights, torch.from_numpy(people.volumes).float()[None])[-1]
    return float(np.abs(MEAN_AGE + SD_AGE * outputs[0, :, 0].numpy() - people.age).mean())


def table_of(people: People, copies: np.ndarray, weights: Weights, states: np.ndarray) -> SignalTable:
    """Return the signals of some networks on ``people``; ``states`` is networks × people."""
    models, size = states.shape
    volumes = torch.from_numpy(people.volumes).float().expand(models, -1, -1)
    signals = gradients(weights, volumes, torch.from_numpy(people.age).float())
    moved = torch.from_numpy(copies).float().reshape(1, -1, VOLUMES).expand(models, -1, -1)
    on_copies = forward(weights, moved)[-1].reshape(models, COPIES, size).transpose(1, 2)
    signals["augmented:shift"] = MEAN_AGE + SD_AGE * on_copies
    covariates = Covariates(
        tuple(ScanId(f"{k:04d}") for k in range(size)),
        people.age.astype(np.float32).astype(np.float64),
        people.sex,
        people.site,
    )
    return SignalTable(
        covariates,
        tuple(f"model-{k}" for k in range(models)),
        ("last",),
        states.astype(np.int8),
        {name: LazyArray(values[:, None].numpy()) for name, values in signals.items()},
    )


def gradients(weights: Weights, volumes: torch.Tensor, ages: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return predictions, activations and each person's gradients of the squared error (years²)."""
    first, second, outputs = forward(weights, volumes)
    predictions = MEAN_AGE + SD_AGE * outputs[..., 0]
    at_output = 2.0 * SD_AGE * (predictions - ages)[..., None]
    at_second = at_output * weights[4] * (second > 0)
    at_first = torch.bmm(at_second, weights[2]) * (first > 0)
    deltas, inputs = (at_first, at_second, at_output), (volumes, first, second)
    norms = [
        norm
        for delta, value in zip(deltas, inputs, strict=True)
        for norm in (delta.norm(dim=2) * value.norm(dim=2), delta.norm(dim=2))
    ]
    outer = [delta[..., :, None] * value[..., None, :] for delta, value in zip(deltas, inputs, strict=True)]
    return {
        "prediction": predictions,
        "gradient-norms": torch.stack(norms, dim=2),
        "gradient:conv1": outer[0],
        "gradient:conv6": outer[1].reshape(*outer[1].shape, 1, 1, 1),
        "gradient:output": outer[2],
        "activation:conv5": first[..., None],
    }
