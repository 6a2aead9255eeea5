"""Seconds of every attack without reference models on signals of many scans, and of all together.

The signals are made up (members fitted more closely), of the shapes of a 4 mm 3D-CNN; one score is one
leaked draw. The paper's encoders are left out unless asked for: they are timed apart. As in a run, every
attack is a job on one thread, and ``--workers`` jobs run at once.
Run: python benchmarks/attacks.py [--scans 5000] [--leaked 100] [--width quarter|full] [--workers 1]
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from privoxel.attacks import WHEN_NAMED, list_attacks
from privoxel.attacks.base import Attack, Course, Knowledge, course_of, needs_models
from privoxel.attacks.paper import ActivationAttack, EncoderAttack
from privoxel.cohort.base import Covariates, ScanId
from privoxel.executor import run_jobs
from privoxel.signals.table import LazyArray, SignalTable

SHAPES = {
    "quarter": {
        "gradient:conv1": (8, 1, 3, 3, 3),
        "gradient:conv6": (16, 64, 1, 1, 1),
        "gradient:output": (1, 16, 1, 1, 1),
        "activation:conv5": (64, 2, 3, 2),
    },
    "full": {
        "gradient:conv1": (32, 1, 3, 3, 3),
        "gradient:conv6": (64, 256, 1, 1, 1),
        "gradient:output": (1, 64, 1, 1, 1),
        "activation:conv5": (256, 2, 3, 2),
    },
}
TENSORS = 14


class Case(NamedTuple):
    """What is scored and what is known."""

    target: SignalTable
    knowledge: Knowledge
    members: np.ndarray


def make_case(folder: Path, scans: int, leaked: int, shapes: dict[str, tuple[int, ...]], seed: int) -> Case:
    """Return a table of ``scans`` people, half of them members, ``leaked`` of each class leaked.

    Signals are files in ``folder``, memory-mapped as those of a run are.
    """
    rng = np.random.default_rng(seed)
    is_member = np.arange(scans) % 2 == 0
    unfitted = rng.normal(0.5, 4.0, scans)
    error = unfitted * np.where(is_member, 0.5, 1.0)
    people = tuple(ScanId(f"{k:05d}") for k in range(scans))
    age = rng.normal(62.6, 7.4, scans)
    sites = rng.choice(["a", "b", "c"], scans)
    covariates = Covariates(people, age, rng.choice(["F", "M"], scans), sites)
    noise = rng.lognormal(0.0, 0.2, (scans, TENSORS))
    values = {
        "prediction": (age + error).astype(np.float32),
        "gradient-norms": (np.abs(error)[:, None] * noise).astype(np.float32),
    }
    for kind in ("shift", "rotation", "noise"):
        copies = age[:, None] + unfitted[:, None] + rng.normal(0, 0.3, (scans, 6))
        values[f"augmented:{kind}"] = copies.astype(np.float32)
    shapes = {**shapes, "projection:512": (512,)}
    for name, shape in shapes.items():
        along = np.multiply.outer(error.astype(np.float32), rng.standard_normal(shape, dtype=np.float32))
        values[name] = (along + rng.standard_normal(along.shape, dtype=np.float32)).astype(np.float16)
    lazy = {name: _stored(folder / f"{name.replace(':', '_')}.npy", value) for name, value in values.items()}
    table = SignalTable(covariates, ("model",), ("last",), is_member.astype(np.int8)[None], lazy)
    known = np.arange(scans) < 2 * leaked
    return Case(table.select(~known).blinded(), Knowledge(leaked=table.select(known)), is_member[~known])


def _stored(path: Path, values: np.ndarray) -> LazyArray:
    np.save(path, values[None, None])
    return LazyArray(path)


def timed(attack: Attack, case: Case) -> tuple[float, float]:
    """Return seconds and AUC of one score."""
    started = time.perf_counter()
    scores = attack.score(case.target, case.knowledge, np.random.default_rng(0)).scores
    seconds = time.perf_counter() - started
    order = np.argsort(np.argsort(scores)) + 1.0
    m, n = int(case.members.sum()), int((~case.members).sum())
    return seconds, (order[case.members].sum() - m * (m + 1) / 2) / (m * n)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=5000)
    parser.add_argument("--leaked", type=int, default=100)
    parser.add_argument("--width", choices=sorted(SHAPES), default="quarter")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--encoders", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _print_times(Path(folder), options)


def _print_times(folder: Path, options: argparse.Namespace) -> None:
    """Print seconds and AUC of every attack, in the order of the registry, and of all together."""
    case = make_case(folder, options.scans, options.leaked, SHAPES[options.width], 0)
    everyone = (*list_attacks(), *WHEN_NAMED.values())
    attacks = [attack for attack in everyone if _is_timed(attack, encoders=options.encoders)]
    print(f"{options.scans} scans, {options.leaked} + {options.leaked} leaked, {options.width} width")
    print(f"{'attack':24}{'seconds':>9}{'AUC':>8}")
    started = time.perf_counter()
    jobs = [(attack, case) for attack in attacks]
    for attack, found in zip(attacks, run_jobs(timed, jobs, workers=options.workers), strict=True):
        seconds, auc = found
        print(f"{attack.name:24}{seconds:9.2f}{auc:8.3f}", flush=True)
    print(f"{'all':24}{time.perf_counter() - started:9.2f}")


def _is_timed(attack: Attack, *, encoders: bool) -> bool:
    """Return whether ``attack`` needs the last weights of one model and, unless asked for, is no encoder."""
    is_encoder = isinstance(attack, EncoderAttack | ActivationAttack)
    is_single = not needs_models(attack) and course_of(attack) is Course.LAST
    return is_single and (encoders or not is_encoder)


if __name__ == "__main__":
    main()
