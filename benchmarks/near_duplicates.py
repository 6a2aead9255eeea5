"""Finding one person under two names: how often it is found, how often wrongly, and how long it takes.

Copies of simulated people's scans are distorted as another preprocessing does, or are other scans of them
(the simulator's sessions); nobody else is in a cohort twice. ``real`` does the same with images of a folder
and tells numbers alone. ``time`` writes the volumes to a cache first and times what follows.

    python benchmarks/near_duplicates.py rates [--participants 200] [--cohorts 10] [--seed 2000]
    python benchmarks/near_duplicates.py real --cohort DIR
    python benchmarks/near_duplicates.py time [--participants 10000] [--resolution 4]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from privoxel.cohort.base import Cohort, Grid
from privoxel.cohort.bids import load_cohort
from privoxel.cohort.cache import cache_volumes
from privoxel.cohort.likeness import fingerprints
from privoxel.cohort.near_duplicates import near_duplicates
from privoxel.cohort.overlap import find_overlap
from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort

Volume = np.ndarray
SHARE = 10  # one person in ten is there twice


def moved(volume: Volume, rng: np.random.Generator) -> Volume:
    """Return the volume shifted by 2 mm and turned by 1.5 degrees per axis (SDs), at 4 mm."""
    turn = np.eye(3)
    for axis, (i, j) in enumerate(((1, 2), (0, 2), (0, 1))):
        angle = np.deg2rad(rng.normal(0, 1.5, 3)[axis])
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    centre = (np.array(volume.shape) - 1) / 2
    offset = centre - turn @ centre + rng.normal(0, 0.5, 3)
    return ndimage.affine_transform(volume, turn, offset=offset, order=1, mode="nearest")


def resampled(volume: Volume, _: np.random.Generator) -> Volume:
    """Return the volume after a way over voxels of 6 mm."""
    small = ndimage.zoom(volume, 2 / 3, order=1)
    return ndimage.zoom(small, np.array(volume.shape) / small.shape, order=1)


def rescaled(volume: Volume, rng: np.random.Generator) -> Volume:
    """Return the volume with another gain and gamma."""
    low, high = volume.min(), volume.max()
    return ((volume - low) / (high - low)) ** rng.uniform(0.6, 1.6)


def noisy(volume: Volume, rng: np.random.Generator) -> Volume:
    """Return the volume with noise of 0.2 of its own SD."""
    return volume + rng.normal(0, 0.2, volume.shape)


def shaded(volume: Volume, rng: np.random.Generator) -> Volume:
    """Return the volume times a bias field, log-linear with an SD of 0.2 at the edges per axis."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in volume.shape), indexing="ij")
    return (volume - volume.min()) * np.exp(sum(rng.normal(0, 0.2) * axis for axis in axes))


def cropped(volume: Volume, _: np.random.Generator) -> Volume:
    """Return the volume without its lowest 32 mm and its leftmost 16 mm."""
    out = volume.copy()
    out[:, :, :8] = out[:4] = volume.min()
    return out


def everything(volume: Volume, rng: np.random.Generator) -> Volume:
    """Return the volume moved, rescaled, noisy and shaded."""
    for change in (moved, rescaled, standard, noisy, shaded):
        volume = change(volume, rng)
    return volume


def standard(volume: Volume, _: np.random.Generator | None = None) -> Volume:
    """Return the volume z-scored, as every cohort's are."""
    return ((volume - volume.mean()) / volume.std()).astype(np.float32)


CHANGES: dict[str, Callable[[Volume, np.random.Generator], Volume]] = {
    "resampled": resampled,
    "rescaled": rescaled,
    "noisy": noisy,
    "shaded": shaded,
    "moved": moved,
    "cropped": cropped,
    "all but crop": everything,
}


def found_pairs(volumes: Volume) -> tuple[set[tuple[int, int]], float | None]:
    """Return the pairs that count as one person, each volume under a name of its own, and the limit."""
    prints = fingerprints(lambda row: volumes[row], len(volumes), voxel_mm=4.0)
    found = near_duplicates(prints, np.arange(len(volumes)))
    return {(pair.first, pair.second) for pair in found.pairs}, found.limit


def tell(name: str, volumes: Volume, copies: Volume, known: set[tuple[int, int]], tally: dict) -> None:
    """Add what is found with ``copies`` of the first volumes to the tally."""
    n = len(volumes)
    true = {(k, n + k) for k in range(len(copies))}
    found, limit = found_pairs(np.concatenate([volumes, copies]))
    people = {tuple(sorted((i % n, j % n))) for i, j in found}  # copy k is person k
    others = {pair for pair in people - known if pair[0] != pair[1]}
    row = tally.setdefault(name, {"found": 0, "copies": 0, "false": 0, "cohorts": 0, "limits": []})
    row["found"] += len(found & true)
    row["copies"] += len(true)
    row["false"] += len(others)
    row["cohorts"] += 1
    row["limits"].append(limit)


def show(tally: dict, n: int) -> None:
    """Print the tally as rows of a table."""
    print(f"| copies of one in {SHARE} of {n} | found | pairs wrongly found (cohorts) | limit, median |")
    print("|---|---|---|---|")
    for name, row in tally.items():
        limit = np.median([one for one in row["limits"] if one is not None] or [np.nan])
        found = f"{row['found']} of {row['copies']}"
        print(f"| {name} | {found} | {row['false']} ({row['cohorts']}) | {limit:.2f} |", flush=True)


def rates(participants: int, cohorts: int, start: int) -> None:
    """Print detection and false alarms on simulated people, seeds ``start`` and up."""
    tally: dict = {}
    for seed in range(start, start + cohorts):
        config = SimulatorConfig(seed=seed, resolution_mm=4.0, sessions=2)
        cohort = simulate_cohort(config, participants)
        first = np.stack([cohort.volume(2 * k) for k in range(participants)])
        again = np.stack([cohort.volume(2 * k + 1) for k in range(participants // SHARE)])
        rng = np.random.default_rng(seed)
        tell("none", first, first[:0], set(), tally)
        tell("another scan", first, again, set(), tally)
        for name, change in CHANGES.items():
            tell(name, first, np.stack([standard(change(v, rng)) for v in first[: len(again)]]), set(), tally)
    show(tally, participants)


def real(cohort: Cohort) -> None:
    """Print detection on real images, each participant's first scan, and the pairs found before any copy."""
    rows = np.unique(cohort.covariates.participant_index, return_index=True)[1]
    volumes = np.stack([cohort.volume(int(row)) for row in rows])
    known, limit = found_pairs(volumes)
    age, sex = cohort.covariates.age[rows], cohort.covariates.sex[rows]
    for i, j in known:
        apart = abs(age[i] - age[j])
        print(f"found as they are: ages {apart:.2f} years apart, of one sex: {sex[i] == sex[j]}")
    print(f"{len(rows)} participants, {len(known)} pairs, limit {limit or np.nan:.2f}")
    rest = np.setdiff1d(np.arange(len(cohort)), rows)
    people = cohort.covariates.participant_index
    everyone = np.concatenate(
        [volumes, *([np.stack([cohort.volume(int(row)) for row in rest])] if len(rest) else [])]
    )
    twice = {(int(people[row]), len(rows) + k) for k, row in enumerate(rest)}
    print(f"other pipeline: {len(found_pairs(everyone)[0] & twice)} of {len(rest)}")
    tally: dict = {}
    rng = np.random.default_rng(0)
    count = len(volumes) // SHARE
    for name, change in CHANGES.items():
        tell(name, volumes, np.stack([standard(change(v, rng)) for v in volumes[:count]]), known, tally)
    show(tally, len(volumes))


def timed(participants: int, resolution: float) -> None:
    """Print how long it takes to look through a cached cohort."""
    config = SimulatorConfig(seed=77, resolution_mm=resolution)
    with tempfile.TemporaryDirectory() as folder:
        cohort = cache_volumes(simulate_cohort(config, participants), folder=Path(folder))
        states = {name: k % 2 for k, name in enumerate(cohort.covariates.participants)}
        start, spent = time.perf_counter(), time.process_time()
        overlap = find_overlap(cohort, states)
        seconds, processor = time.perf_counter() - start, time.process_time() - spent
    print(
        f"{participants} participants at {resolution:g} mm: {seconds:.1f} s, {processor:.1f} s of processor"
    )
    print(f"pairs {len(overlap.named)}, limit {overlap.limit or np.nan:.2f}")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("rates", "real", "time"))
    parser.add_argument("--participants", type=int, default=None)
    parser.add_argument("--cohorts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=2000, help="of the first simulated cohort")
    parser.add_argument("--cohort", type=Path)
    parser.add_argument("--resolution", type=float, default=4.0)
    asked = parser.parse_args()
    if asked.what == "rates":
        rates(asked.participants or 200, asked.cohorts, asked.seed)
    elif asked.what == "real":
        real(load_cohort(asked.cohort, grid=Grid.mni(4.0), skip_bad=True))
    else:
        timed(asked.participants or 10_000, asked.resolution)


if __name__ == "__main__":
    main()
