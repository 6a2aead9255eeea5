"""Scores of other tools' attacks on exported targets (``attack_comparison.py … export``). Higher = member.

Runs in the environment of ``environment.py`` and imports nothing of privoxel. Every adapter gets the same
judged people, leak and reference predictions as privoxel's attacks; none of them gets a membership of judged
people. A cell that was scored is not scored again.
Run: PEERS/bin/python benchmarks/peers/run.py OUTPUT
"""

import argparse
import importlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

FROM_REFERENCES = ("sacro:lira-offline", "privacy-meter:", "privacy-guard:rmia", "privacy-guard:lira-offline")
FROM_MODELS = (
    *FROM_REFERENCES, "art:references", "sacro:references", "sacro:lira-online", "privacy-guard:lira-online",
)  # fmt: skip
"""Attacks that read models and are the same whatever is leaked; they run once. The first also run without
each reference: classifiers would take five times as long, and without a shadow some people are inside one."""
OF_EACH_REFERENCE = ("reference_residual", "reference_unseen_residual")
TOOLS = ("art_tool", "sacro_tool", "privacy_meter_tool", "privacy_guard_tool")


def main() -> None:
    """Score every exported cell with every tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--tools", nargs="*", default=list(TOOLS), choices=TOOLS)
    options = parser.parse_args()
    tools = [importlib.import_module(name) for name in options.tools]
    most = 0
    for path in sorted((options.output / "export").glob("*.npz"), key=_leaked, reverse=True):
        most = max(most, _leaked(path))
        with np.load(path) as file:
            given = dict(file)
        has_models = len(given["reference_residual"]) > 0
        done = options.output / "peers" / path.name
        scores = {}
        if done.exists():
            with np.load(done) as file:
                scores = dict(file)
        began = time.perf_counter()
        for tool in tools:
            for name, attack in tool.ATTACKS.items():
                for said, what in asked(name, given, once=_leaked(path) == most and has_models):
                    if said not in scores:
                        scores[said] = np.asarray(attack(what), dtype=np.float64)
        done.parent.mkdir(parents=True, exist_ok=True)
        temporary = done.with_suffix(".part")
        with temporary.open("wb") as file:
            np.savez(file, **scores)
        temporary.replace(done)
        print(f"{path.stem}: {len(scores)} attacks, {time.perf_counter() - began:.1f} s", flush=True)


def asked(name: str, given: dict, *, once: bool) -> Iterator[tuple[str, dict]]:
    """Yield what an attack is run on: what is given, and where asked for that without each reference."""
    if once or not name.startswith(FROM_MODELS):
        yield name, given
    if once and name.startswith(FROM_REFERENCES):
        for k, model in enumerate(given["reference_names"]):
            rest = {part: np.delete(given[part], k, axis=0) for part in OF_EACH_REFERENCE}
            yield f"{name}~{model}", {**given, **rest}


def _leaked(path: Path) -> int:
    """Return how many people of each class are leaked in a file NETWORK-LEVEL-LEAKED-NUMBER."""
    return int(path.stem.split("-")[-2])


if __name__ == "__main__":
    main()
