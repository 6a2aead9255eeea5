"""False alarms of every attack and metric on targets that never saw the "members", also with older members.

Targets are small networks, trained for real (``tests/null_targets.py``). Lines of finished targets are kept
in --lines, so that a run can be taken up again; the table is made of what is there.

    PYTHONPATH=.:src python benchmarks/null_calibration.py --lines FILE [--targets 300] [--slow-targets 100]
    PYTHONPATH=.:src python benchmarks/null_calibration.py --lines FILE --table
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.null_calibration import BEST, CONTROL, EXCESS, MATCHED, all_alarms, lower_limit, scores_of
from tests.null_targets import NullTarget, Setting, null_targets

from privoxel.attacks import ON_COPIES, list_attacks
from privoxel.attacks.base import Attack
from privoxel.evaluation.intervals import clopper_pearson

SHIFT = 5.0
BATCH = 10
BEST_TARGETS = 40
"""Targets on which the best of many is chosen, which takes longer than all quick attacks."""
MEDIUM = (
    "error-forest", "tube", "quantile", "quantile-gaussian", "quantile-activation",
    "quantile-gaussian-activation", "centred-quantile", "default", "default-black-box", "stacked",
)  # fmt: skip
SLOW = (
    "activation", "gradient-magnitude", "gradient-conv1",
    "gradient-output", "gradient-conv6", "prediction-label", "combined", "shadow-prediction-label",
    "shadow-combined", "shadow-stacked", "stacked-ensemble",
)  # fmt: skip
"""Attacks that take seconds a target; two attackers are drawn for them instead of the audit's four."""
ON_SHIFTS = ("stability", "stability-error")
"""Attacks on the copies that such a target has."""


def groups() -> dict[str, tuple[Attack, ...]]:
    """Return all attacks in groups of like cost."""
    everyone = (*list_attacks(), *(ON_COPIES[name] for name in ON_SHIFTS))
    quick = tuple(a for a in everyone if a.name not in (*MEDIUM, *SLOW))
    return {
        "quick": quick,
        "medium": tuple(a for a in everyone if a.name in MEDIUM),
        "slow": tuple(a for a in everyone if a.name in SLOW),
    }


def measure(lines: Path, wanted: Sequence[str], targets: int, slow_targets: int) -> None:
    """Append a line for every target, shift and wanted group of attacks to ``lines``."""
    known = {(line["group"], line["shift"], line["seed"]) for line in read(lines)}
    for start in range(0, targets, BATCH):
        seeds = range(start, min(start + BATCH, targets))
        for shift in (0.0, SHIFT):
            started = time.perf_counter()
            sized = [group for group in wanted if group != "slow" or start < slow_targets]
            cells = [(seed, group) for seed in seeds for group in sized]
            missing = [(seed, group) for seed, group in cells if (group, shift, seed) not in known]
            if not missing:
                continue
            trained = dict(zip(seeds, null_targets(Setting(shift=shift), seeds), strict=True))
            for seed, group in missing:
                line = measured(trained[seed], seed, group, shift)
                with lines.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            print(f"{shift:g} {seeds} {time.perf_counter() - started:.1f} s", flush=True)


def measured(target: NullTarget, seed: int, group: str, shift: float) -> dict:
    """Return the line of one target: every alarm of the group's attacks."""
    scores = scores_of(target, groups()[group], seed, attackers=4 if group == "quick" else 2)
    found = all_alarms(target, scores, seed, shifted=bool(shift), best=seed < BEST_TARGETS)
    return {"group": group, "shift": shift, "seed": seed, "mae": target.mae, "found": found}


def read(lines: Path) -> list[dict]:
    """Return the finished lines."""
    return [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []


def counts(found: list[dict]) -> dict[tuple[float, str, str], list[bool]]:
    """Return the tests of each cell: shift, attack, metric."""
    cells = defaultdict(list)
    for line in found:
        for attack, metrics in line["found"].items():
            name = f"{BEST} ({line['group']})" if attack == BEST else attack
            if attack == CONTROL.name and line["group"] != "quick":
                continue
            for metric, (raised, _) in metrics.items():
                cells[line["shift"], name, metric].append(raised)
    return cells


def is_tested(shift: float, metric: str) -> bool:
    """Return whether a cell belongs to the claim; with a shift only the controlled ones do."""
    return not shift or metric == EXCESS or metric.startswith(MATCHED)


def table(found: list[dict]) -> None:
    """Print the share of false alarms of every cell, and the cells that fail or lie above 7.5 %."""
    cells = counts(found)
    tested = {cell: tests for cell, tests in cells.items() if is_tested(cell[0], cell[2])}
    for shift in sorted({cell[0] for cell in cells}):
        metrics = list(dict.fromkeys(cell[2] for cell in cells if cell[0] == shift))
        print(f"\n| members {shift:g} years older: attack | targets | {' | '.join(metrics)} |")
        print("|---" * (len(metrics) + 2) + "|")
        for name in dict.fromkeys(cell[1] for cell in cells if cell[0] == shift):
            row = [cells.get((shift, name, metric)) for metric in metrics]
            size = max(len(tests) for tests in row if tests)
            print(f"| {name} | {size} | {' | '.join(map(shown, row))} |")
    print(f"\n{len(tested)} cells tested")
    for (shift, name, metric), tests in sorted(tested.items(), key=lambda item: -sum(item[1]) / len(item[1])):
        limit = lower_limit(sum(tests), len(tests), len(tested))
        if limit > 0.05 or sum(tests) > 0.075 * len(tests):
            print(f"{'FAILS' if limit > 0.05 else 'above 7.5 %'}: {shift:g} {name} {metric} {shown(tests)}")


def shown(tests: list[bool] | None) -> str:
    """Return the share in percent with its exact 95 % interval."""
    if not tests:
        return "–"
    share = sum(tests) / len(tests)
    low, high = clopper_pearson(share, len(tests))
    return f"{100 * share:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def main() -> None:
    """Measure, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=Path, required=True)
    parser.add_argument("--targets", type=int, default=300)
    parser.add_argument("--slow-targets", type=int, default=100)
    parser.add_argument("--groups", nargs="+", choices=sorted(groups()), default=list(groups()))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if not options.table:
        measure(options.lines, options.groups, options.targets, options.slow_targets)
    table(read(options.lines))


if __name__ == "__main__":
    main()
