"""What the trained models say: one pass over the volumes for all levels, never made twice."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from comparison.settings import LEVELS, Network
from comparison.training import Bench, untrained
from privoxel.arrays import BoolArray, Float32Array, IntArray
from privoxel.attacks import get_attack
from privoxel.attacks.base import Attack
from privoxel.cohort.base import Covariates
from privoxel.progress import Silent
from privoxel.recipes.target import needed_signals
from privoxel.signals.extract import Extraction, extract, signal_file
from privoxel.signals.table import PREDICTION, LazyArray, SignalTable
from privoxel.training.runtime import choose_runtime

DONE = "tensors.txt"


@final
@dataclass(frozen=True)
class Watch:
    """Which trainings are read on which rows of the cohort, and where what they say is kept."""

    network: Network
    trainings: tuple[str, ...]
    rows: IntArray
    signals: tuple[str, ...]
    folder: Path


def watch(seen: Watch, bench: Bench) -> None:
    """Write the signals of all trainings at all levels unless they are there: levels within trainings."""
    if (seen.folder / DONE).exists():
        return
    weights = [bench.snapshot(name, seen.network, level) for name in seen.trainings for level in LEVELS]
    runtime = choose_runtime(bench.settings.training)
    model = untrained(seen.network, bench.cohort, seen.rows, bench.groups.streams)
    runtime.place(model)
    extraction = Extraction(seen.signals, runtime=runtime)
    scans = bench.cohort.select(seen.rows)
    made = extract(model, weights, scans, extraction, folder=seen.folder, progress=Silent())
    (seen.folder / DONE).write_text("\n".join(made.tensors), encoding="utf-8")


def deep_signals(network: Network, attacks: tuple[Attack, ...], bench: Bench) -> tuple[str, ...]:
    """Return every signal that ``attacks`` read of this network."""
    model = untrained(network, bench.cohort, np.arange(2), bench.groups.streams)
    return needed_signals(model, attacks, ())


def watches(bench: Bench) -> list[Watch]:
    """Return everything that is read: predictions of all models first, then what white-box attacks read."""
    groups, counts = bench.groups, bench.settings.trainings
    names = (*bench.settings.attacks.shadow_free, *bench.settings.attacks.one_shadow)
    deep = tuple(get_attack(name) for name in names)
    judged = np.concatenate([groups.pool, groups.unseen])
    plain, rich = [], []
    for network in bench.settings.networks:
        net, folder = network.model.name, bench.output / "signals" / network.model.name
        signals = deep_signals(network, deep, bench)
        targets = [f"target-{k}" for k in range(counts.targets)]
        references = tuple(f"{net}/reference-{k}" for k in range(counts.references))
        shadows = tuple(f"{net}/shadow-{k}" for k in range(counts.shadows))
        for name in targets:
            unseen = folder / f"{name}-unseen"
            if len(groups.unseen):
                plain.append(Watch(network, (f"{net}/{name}",), groups.unseen, (PREDICTION,), unseen))
            rich.append(Watch(network, (f"{net}/{name}",), groups.pool, signals, folder / name))
        if references:
            plain.append(Watch(network, references, judged, (PREDICTION,), folder / "references"))
            rich += [
                Watch(network, (one,), groups.outside, signals, folder / own_name(one)) for one in references
            ]
        if shadows:
            plain.append(Watch(network, shadows, groups.pool, (PREDICTION,), folder / "shadows"))
            rich += [
                Watch(network, (one,), groups.own_people(number), signals, folder / own_name(one))
                for number, one in enumerate(shadows)
            ]
    return [*plain, *rich]


def own_name(training: str) -> str:
    """Return the folder of what a training says of the people that it was drawn from.

    >>> own_name("cnn3d/reference-3")
    'own-reference-3'
    """
    return f"own-{training.rpartition('/')[2]}"


def watch_all(bench: Bench, *, plain: bool = False) -> None:
    """Extract whatever is missing, of the trainings that have ended; ``plain`` extracts predictions only."""
    for seen in watches(bench):
        if plain and seen.signals != (PREDICTION,):
            continue
        ready = all(
            bench.snapshot(name, seen.network, level).exists() for name in seen.trainings for level in LEVELS
        )
        if ready:
            watch(seen, bench)
        print(
            f"{seen.folder.relative_to(bench.output)}: {'there' if ready else 'not trained yet'}", flush=True
        )


def opened(folder: Path, level: str, covariates: Covariates, membership: BoolArray) -> SignalTable:
    """Return the table of one training at one level, from a folder that ``watch`` wrote."""
    at = LEVELS.index(level)
    values: dict[str, LazyArray] = {}
    for name in sorted(path.name for path in folder.glob("*.npy")):
        stored = np.load(folder / name, mmap_mode="r")
        values[signal_name(name)] = LazyArray(stored[:, at : at + 1])
    tensors = tuple((folder / DONE).read_text(encoding="utf-8").split("\n"))
    states: npt.NDArray[Any] = membership.astype(np.int8)[None]
    return SignalTable(covariates, ("target",), (level,), states, values, tensors)


def signal_name(file: str) -> str:
    """Return the signal that a file holds: the inverse of ``signal_file``.

    >>> signal_name("gradient_conv1.npy"), signal_name("gradient-norms.npy")
    ('gradient:conv1', 'gradient-norms')
    """
    return file.removesuffix(".npy").replace("_", ":", 1)


def predictions(folder: Path, level: str) -> Float32Array:
    """Return the predicted ages (years) of several trainings at one level: trainings × scans."""
    stored = np.load(folder / signal_file(PREDICTION))[0]
    return np.asarray(stored[LEVELS.index(level) :: len(LEVELS)])
