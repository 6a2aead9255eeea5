"""privoxel's attacks beside the paper's and other tools' on the same trained targets (see docs/benchmarks.md).

Stages, each of which continues where it stopped:
  train    targets, references and shadows         signals  what they say of everyone
  attacks  scores of privoxel's and the paper's    export   what the other tools are given
  table    Markdown from all scores
Run: python benchmarks/attack_comparison.py SETTINGS.toml OUTPUT STAGE [STAGE ...]
"""

import argparse
from pathlib import Path

from comparison.exporting import export_all
from comparison.observing import watch_all
from comparison.people import simulated
from comparison.scoring import score_all
from comparison.settings import read_settings
from comparison.training import Bench, train_all

STAGES = {"train": train_all, "signals": watch_all, "attacks": score_all, "export": export_all}


def main() -> None:
    """Run the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("stages", nargs="+", choices=[*STAGES])
    options = parser.parse_args()
    settings = read_settings(options.settings)
    bench = Bench(settings, simulated(settings, options.output / "volumes"), options.output)
    for stage in options.stages:
        STAGES[stage](bench)


if __name__ == "__main__":
    main()
