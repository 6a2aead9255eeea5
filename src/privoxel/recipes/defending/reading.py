"""Reading the finished settings of a frontier back from their run folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from privoxel.attacks import get_attack
from privoxel.attacks.base import ThreatModel
from privoxel.config import RunConfig
from privoxel.evaluation.archive import Archive
from privoxel.evaluation.frontier import Choice
from privoxel.evaluation.results import Results
from privoxel.recipes.defending.settings import Point
from privoxel.recipes.defending.training import POINTS
from privoxel.recipes.rewrite import read_results
from privoxel.recipes.shadow_plans import threat_model_of
from privoxel.store import RunFolder


@final
@dataclass(frozen=True)
class Finished:
    """A finished setting: what it was, its results, and its targets' scores."""

    point: Point
    results: Results
    choice: Choice
    seconds: float


def read_point(point: Point, output: Path) -> Finished:
    """Return the finished setting ``point`` of the frontier in ``output``.

    Raises:
        StoreError: if it is not finished, or its files are of another version.
    """
    folder = output / POINTS / point.folder
    results = read_results(folder)
    archive = Archive.load(folder / "scores.npz")
    targets = tuple(archive.targets[target.name] for target in results.targets)
    steps = RunFolder(folder).manifest["steps"]
    seconds = sum(facts.get("seconds", 0.0) for step, facts in steps.items() if step.endswith("/training"))
    return Finished(point, results, Choice(point.name, targets), float(seconds))


def adversaries(names: Sequence[str], config: RunConfig) -> Mapping[str, tuple[str, ...]]:
    """Return the attacks ``names`` that each adversary can run: who holds the weights can ask, too.

    Adversaries without an attack of their own are left out.
    """
    of = {name: threat_model_of(get_attack(name), config) for name in names}
    black = tuple(name for name in names if of[name] is ThreatModel.BLACK_BOX)
    found = {str(ThreatModel.BLACK_BOX): black} if black else {}
    for kind in dict.fromkeys(of.values()):
        if kind is not ThreatModel.BLACK_BOX:
            found[str(kind)] = tuple(name for name in names if name in black or of[name] is kind)
    return found
