"""What cheaper reference models lose in AUC and save in seconds, and one shadow as in the paper's Appendix E.

Every target has simulated people of its own: members, as many non-members, and others who are not judged.
For each way of training, the same number of reference models is trained on one thread by the recipe that a
run uses and given to the same attacks on the same adversaries' draws. Seconds are processor time of training
and reading the models of one target. Differences are paired, with 95 % intervals over targets × participants.

    python benchmarks/shadows.py [--targets 6] [--models 4] [--group 80] [--epochs 16] [--short 6]
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from privoxel.attacks import ATTACKS
from privoxel.attacks.base import Attack
from privoxel.cohort.base import Cohort
from privoxel.cohort.cache import cache_volumes
from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort
from privoxel.cohort.splits import Design, draw_design
from privoxel.config import RunConfig, parse_config
from privoxel.evaluation.comparison import compare_attacks
from privoxel.evaluation.metrics import auc
from privoxel.evaluation.scored import Estimate, Evaluated
from privoxel.progress import Silent
from privoxel.recipes.adversaries import adversary_draws
from privoxel.recipes.attacking import Crew, run_attacks
from privoxel.recipes.shadows import Shadows, observe_shadows
from privoxel.recipes.target import Observed, TargetPlan, Workplace, observe
from privoxel.seeding import Streams
from privoxel.store import open_run
from privoxel.training.runtime import choose_runtime

FRACTION = 2 / 3
COLUMNS = ("lira-online", "lira-offline", "rmia", "attack-r")
ALONE = "abs-error"
APPENDIX_E = ("shadow-prediction-label", "shadow-combined")


class Way(NamedTuple):
    """A way of training reference models; ``against`` is the full form that it is compared with."""

    title: str
    shadows: Mapping[str, Any]
    against: str = ""


def ways(models: int, short: int) -> tuple[Way, ...]:
    """Return the ways, each full form before its cheaper ones."""
    balanced = {"count": models, "design": "balanced"}
    population = {"count": models, "design": "population", "fraction": FRACTION}
    less = {"epochs": short}
    return (
        Way("balanced", balanced),
        Way(f"balanced, {short} epochs", balanced | less, "balanced"),
        Way("population", population),
        Way(f"population, {short} epochs", population | less, "population"),
        Way(
            f"population, {short} epochs from the first shadow",
            population | less | {"warm_start": True},
            "population",
        ),
        Way(
            f"population, {short} epochs from the target (white-box)",
            population | less | {"warm_start": "target"},
            "population",
        ),
        Way("distilled", {"distilled": models}, "population"),
        Way(f"distilled, {short} epochs", {"distilled": models} | less, "distilled"),
    )


def settings(options: argparse.Namespace, shadows: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a run with these ``shadows``."""
    names = [ALONE, *COLUMNS, *APPENDIX_E, *(f"distilled-{name}" for name in COLUMNS[1:])]
    return parse_config(
        {
            "models": [{"name": "cnn3d", "width": 0.25, "head": "scaled", "dropout": 0.0}],
            "training": {
                "epochs": options.epochs,
                "snapshot_every": options.epochs,
                "batch_size": 4,
                "learning_rate": 1e-3,
                "device": "cpu",
                "threads": 1,
            },
            "attacks": {"names": names},
            "shadows": dict(shadows),
        }
    )


def attacks_of(way: Way) -> dict[str, Attack]:
    """Return the attacks that the models of ``way`` allow, by the column they stand in."""
    if "distilled" in way.shadows:
        return {name: ATTACKS[f"distilled-{name}"] for name in COLUMNS[1:]}
    names = COLUMNS[1:] if way.shadows["design"] == "population" else COLUMNS
    # Appendix E has one full shadow; shorter ones are no part of the comparison.
    extra = () if "epochs" in way.shadows else APPENDIX_E
    return {name: ATTACKS[name] for name in (*names, *extra)}


@dataclass
class Found:
    """What one way of training gave, a value a target."""

    evaluated: dict[str, list[Evaluated]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    errors: list[tuple[float, float]] = field(default_factory=list)


def people(cohort: Cohort, group: int, seed: int) -> Design:
    """Return members, non-members and others: ``group``, ``group``, and enough for a shadow's own two."""
    others = round(group / FRACTION)
    rng = Streams(seed).generator("design")
    return draw_design(cohort.covariates, rng, members=group, non_members=group, others=others)


def one_target(number: int, options: argparse.Namespace, root: Path) -> dict[str, Found]:
    """Return what every way of training gave on one target, by its title; the target itself comes first."""
    seed = options.seed + number
    size = 2 * options.group + round(options.group / FRACTION)
    cohort = cache_volumes(simulate_cohort(SimulatorConfig(seed=seed, resolution_mm=6.0), size))
    plan = TargetPlan("target", settings(options, {}).models[0], people(cohort, options.group, seed))
    codes = {name: number * size + k for k, name in enumerate(cohort.covariates.participants)}
    place = workplace(options, {}, cohort, root / f"{number}")
    started = time.process_time()
    observed = observe(plan, [ATTACKS[name] for name in (ALONE, *APPENDIX_E)], place)
    own = Found(seconds=[time.process_time() - started])
    own.evaluated = scored({ALONE: ATTACKS[ALONE]}, observed, codes, place)
    error, members = np.abs(observed.table.error()), observed.table.is_member()
    own.errors = [(float(error[members].mean()), float(error[~members].mean()))]
    print(f"target {number + 1}: trained in {own.seconds[0]:.1f} s, MAE {errors(own)}", flush=True)
    found = {"target": own}
    for k, way in enumerate(ways(options.models, options.short)):
        place = workplace(options, way.shadows, cohort, root / f"{number}-{k}")
        shutil.copytree(root / f"{number}" / "snapshots", root / f"{number}-{k}" / "snapshots")
        attacks = attacks_of(way)
        started = time.process_time()
        shadows = observe_shadows(plan, tuple(attacks.values()), place)
        one = Found(seconds=[time.process_time() - started])
        (references,) = shadows.by_kind.values()
        one.errors = [(references.fidelity.members, references.fidelity.non_members)]
        one.evaluated = scored(attacks, observed, codes, place, shadows)
        found[way.title] = one
        print(f"target {number + 1}: {way.title}, {one.seconds[0]:.1f} s, MAE {errors(one)}", flush=True)
    return found


def together(targets: Sequence[Mapping[str, Found]]) -> dict[str, Found]:
    """Return the findings of all targets, by title."""
    merged: dict[str, Found] = {}
    for target in targets:
        for title, one in target.items():
            kept = merged.setdefault(title, Found())
            kept.seconds += one.seconds
            kept.errors += one.errors
            for column, evaluated in one.evaluated.items():
                kept.evaluated.setdefault(column, []).extend(evaluated)
    return merged


def workplace(
    options: argparse.Namespace, shadows: Mapping[str, Any], cohort: Cohort, folder: Path
) -> Workplace:
    """Return a run folder of its own for these settings."""
    config = settings(options, shadows)
    run = open_run(folder, config.to_dict(), resume=False, facts={})
    return Workplace(config, cohort, run, choose_runtime(config.training), Silent())


def scored(
    attacks: Mapping[str, Attack],
    observed: Observed,
    codes: Mapping[str, int],
    place: Workplace,
    shadows: Shadows | None = None,
) -> dict[str, list[Evaluated]]:
    """Return what each attack says of the target, in lists of one."""
    streams = Streams(place.config.seed).child("attacks")
    draws = adversary_draws(observed.table, place.config.attacks, streams)
    crew = Crew(streams, codes, 1, Silent())
    models_for = (lambda _: None) if shadows is None else shadows.models_for
    found = run_attacks(attacks.values(), observed.table, draws, crew=crew, models_for=models_for)
    return {column: [found[attack.name].evaluated] for column, attack in attacks.items()}


def table(found: Mapping[str, Found], options: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the main table."""
    against = {way.title: way.against for way in ways(options.models, options.short)}
    yield "| references | s a target | over full | MAE own / unseen | " + " | ".join(COLUMNS) + " |"
    yield "|---|---|---|---|" + "---|" * len(COLUMNS)
    for title, one in found.items():
        if title == "target":
            continue
        full = found.get(against[title])
        share = "–" if full is None else f"{sum(one.seconds) / sum(full.seconds):.2f}"
        cells = [cell(one, full, column) for column in COLUMNS]
        yield (
            f"| {title} | {statistics.mean(one.seconds):.1f} | {share} | {errors(one)} | "
            + " | ".join(cells)
            + " |"
        )


def cell(one: Found, full: Found | None, column: str) -> str:
    """Return the mean AUC, and its difference to the full form with its interval."""
    if column not in one.evaluated:
        return "–"
    mean = statistics.mean(float(auc(e).value or 0.0) for e in one.evaluated[column])
    if full is None:
        return f"{mean:.3f}"
    return f"{mean:.3f} ({shown(difference(one.evaluated[column], full.evaluated[column]))})"


def errors(one: Found) -> str:
    """Return the mean errors of the models on their own and on unseen scans."""
    return " / ".join(f"{statistics.mean(pair[k] for pair in one.errors):.1f}" for k in (0, 1))


def difference(first: Sequence[Evaluated], second: Sequence[Evaluated]) -> Estimate:
    """Return the AUC of ``first`` minus that of ``second``, over targets × participants."""
    return compare_attacks(first, second).difference


def shown(estimate: Estimate) -> str:
    """Return a difference with its interval."""
    return f"{estimate.value:+.3f}, {estimate.low:+.3f} to {estimate.high:+.3f}"


def appendix_e(found: Mapping[str, Found]) -> Iterator[str]:
    """Yield the lines on one shadow that shares the target's people, and one that does not."""
    yield "| one shadow | overlapping | disjoint | disjoint minus overlapping | disjoint minus abs-error |"
    yield "|---|---|---|---|---|"
    for name in APPENDIX_E:
        overlapping, disjoint = found["balanced"].evaluated[name], found["population"].evaluated[name]
        alone = found["target"].evaluated[ALONE]
        yield (
            f"| {name} | {cell(found['balanced'], None, name)} | {cell(found['population'], None, name)} | "
            f"{shown(difference(disjoint, overlapping))} | {shown(difference(disjoint, alone))} |"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = {"targets": 6, "models": 4, "group": 80, "epochs": 16, "short": 6, "seed": 500}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    started = time.perf_counter()
    targets: list[dict[str, Found]] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for number in range(options.targets):
                targets.append(one_target(number, options, Path(folder)))
        except KeyboardInterrupt:
            print(f"stopped after {len(targets)} targets")
    found = together(targets)
    target = found["target"]
    print(
        f"\n{len(targets)} targets, {options.group} members, {options.models} references a target, "
        f"{options.epochs} epochs; a target takes {statistics.mean(target.seconds):.1f} s and has MAE "
        f"{errors(target)}; abs-error {cell(target, None, ALONE)}\n"
    )
    print("\n".join([*table(found, options), "", *appendix_e(found)]))
    print(f"\n{(time.perf_counter() - started) / 60:.1f} min of wall clock")


if __name__ == "__main__":
    main()
