"""A second, small frontier that asks again about the recommended setting, with one attack fixed beforehand.

The interval of the recommended setting pays for every attack and setting it was chosen among. Other people
and weights, two settings and one attack pay for nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from privoxel.evaluation.frontier_results import Front, Recommendation
from privoxel.recipes.defending.settings import Grid
from privoxel.store import write_text

HEADER = "# Asks again about {name!r}: another seed, and one attack fixed beforehand (docs/frontier.md).\n"


def write_confirmations(grid: Grid, fronts: Sequence[Front], output: Path) -> None:
    """Write the grid that confirms each recommendation into ``output``, in the place of earlier ones."""
    import yaml  # noqa: PLC0415 - as whoever reads YAML

    for earlier in output.glob("confirm-*.yaml"):
        earlier.unlink()
    for front in fronts:
        chosen = front.recommendation
        if chosen is not None and chosen.confirm is not None:
            settings = yaml.safe_dump(confirmation(grid, chosen), sort_keys=False, allow_unicode=True)
            write_text(output / chosen.confirm, HEADER.format(name=chosen.name) + settings)


def confirmation(grid: Grid, chosen: Recommendation) -> Mapping[str, Any]:
    """Return a grid of the reference and the ``chosen`` setting on the next seed, attacked by one attack."""
    common = grid.base.to_dict()
    alone = {"names": [chosen.attack], "primary": chosen.attack, "null_target": [], "other_scans": []}
    compared = grid.frontier.model_dump(mode="json", exclude_none=True)
    return {
        **common,
        "seed": grid.base.seed + 1,
        "attacks": {**common["attacks"], **alone},
        "frontier": {
            **compared,
            "reference": grid.reference,
            "title": f"{grid.frontier.title}: confirmation",
        },
        "points": [
            {"name": point.name, "family": point.family, **point.changes}
            for point in grid.points
            if point.name in {grid.reference, chosen.name}
        ],
    }
