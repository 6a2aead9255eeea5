"""privoxel's attacks beside the paper's and other tools' on the same trained targets.

Stages, each of which continues where it stopped:
  train    targets, references and shadows         signals  what they say of everyone
  attacks  scores of all without an attack network encoders scores of those with one
  export   what the other tools are given          table    Markdown from all scores
Run: python benchmarks/attack_comparison.py SETTINGS.toml OUTPUT STAGE [STAGE ...]
"""

import argparse
from functools import partial
from pathlib import Path

from comparison.exporting import export_all
from comparison.observing import watch_all
from comparison.people import read_people
from comparison.scoring import score_all
from comparison.settings import read_settings
from comparison.tables import write_tables
from comparison.training import Bench, train_all

STAGES = {
    "train": train_all,
    "predictions": partial(watch_all, plain=True),
    "signals": watch_all,
    "attacks": score_all,
    "encoders": partial(score_all, encoders=True),
    "export": export_all,
    "table": write_tables,
}


def main() -> None:
    """Run the stages asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--cohort", type=Path, help="folder of a real cohort")
    parser.add_argument("stages", nargs="+", choices=[*STAGES])
    parser.add_argument(
        "--again", nargs="*", default=[], help="attacks to score again, such as a new default"
    )
    options = parser.parse_args()
    settings = read_settings(options.settings)
    cohort = read_people(settings, options.output / "volumes", options.cohort)
    bench = Bench(settings, cohort, options.output, tuple(options.again))
    for stage in options.stages:
        STAGES[stage](bench)


if __name__ == "__main__":
    main()
