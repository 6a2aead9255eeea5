"""What a central model of Gupta et al. 2021 costs at the size of the paper, from one epoch of a slice of it.

python benchmarks/paper_scale.py [PEOPLE] [THREADS]

As configured (10,446 participants at 91×109×91, full width, batch 8), but with PEOPLE members and half as
many non-members, for one epoch: the cohort is simulated and cached, every network trained, and all signals of
the attacks extracted, each step timed by the clock. Times are then scaled by the number of scans. Attacks are
not part of it: they do not see volumes.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

from privoxel.config import RunConfig, check_settings
from privoxel.progress import Silent
from privoxel.recipes.audit import draw_designs
from privoxel.recipes.cohorts import describe_cohort, read_cohort
from privoxel.recipes.plan import chosen_attacks, plan_targets
from privoxel.recipes.reproduction.central import NETWORKS, Central, central_scale
from privoxel.recipes.target import TargetPlan, Workplace, observe
from privoxel.store import open_run
from privoxel.training.runtime import choose_runtime

COLUMNS = (
    "network",
    "members",
    "simulating, s/scan",
    "training, s/scan and epoch",
    "signals, s/scan",
    "MiB/scan",
    "training of the paper's, h",
    "signals, h",
    "GB",
)
VALIDATION = 1 / 8
"""Validation people a member: 940 beside 7,312."""


def slice_of(config: RunConfig, members: int, threads: int) -> RunConfig:
    """Return the configuration for one epoch of ``members``, half as many non-members and few others."""
    settings = config.to_dict()
    validation = max(2, round(members * VALIDATION))
    settings["split"] |= {"members": members, "non_members": members // 2, "validation": validation}
    settings["cohort"] |= {"participants": members + members // 2 + validation}
    settings["training"] |= {"epochs": 1, "threads": threads}
    return check_settings(RunConfig, settings, where="slice")


def timed(plan: TargetPlan, workplace: Workplace) -> tuple[float, float]:
    """Return the seconds of training and of extracting signals."""
    started = time.perf_counter()
    observe(plan, tuple(chosen_attacks(workplace.config).values()), workplace)
    seconds = time.perf_counter() - started
    training = float(workplace.folder.manifest["steps"][f"{plan.name}/training"]["seconds"])
    return training, seconds - training


def measure(model: str, members: int, threads: int) -> None:
    """Print what one network took and would take."""
    full = central_scale("paper").config_of(Central(model))
    config = slice_of(full, members, threads)
    runtime = choose_runtime(config.training)
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        cohort = read_cohort(describe_cohort(config, None, skip_bad=False), skip_bad=False, progress=Silent())
        simulating = time.perf_counter() - started
        folder = open_run(Path(place) / "run", {}, resume=False, facts={})
        workplace = Workplace(config, cohort, folder, runtime, Silent(), threads)
        (plan,) = plan_targets(config, draw_designs(config, cohort))
        training, extracting = timed(plan, workplace)
        held = sum(file.stat().st_size for file in (folder.path / "signals").rglob("*") if file.is_file())
    judged = members + members // 2
    trained_scan, signal_scan = training / members, extracting / judged
    hours = trained_scan * full.split.members * full.training.epochs / 3600
    wanted = full.split.members + full.split.non_members
    print(
        f"| {model} | {members} | {simulating / len(cohort):.2f} | {trained_scan:.2f} | {signal_scan:.2f} | "
        f"{held / judged / 2**20:.2f} | {hours:.0f} | {signal_scan * wanted / 3600:.1f} | "
        f"{held / judged * wanted / 1e9:.1f} |",
        flush=True,
    )


def main(members: int, threads: int) -> None:
    """Print a line a network."""
    print(f"{choose_runtime(central_scale('paper').run.training).device}, {threads} threads\n")
    print(f"| {' | '.join(COLUMNS)} |")
    print("|---" * len(COLUMNS) + "|")
    for model in NETWORKS:
        measure(model, members, threads)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nMost memory of the process: {peak:.1f} GiB")


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    main(*(numbers + [48, 2][len(numbers) :]))
