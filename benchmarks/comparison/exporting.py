"""What other tools are given: the same people, leak and reference predictions as privoxel's attacks, as npz.

One file a target, level and leak. They hold no membership of judged people, so that no adapter can use it.
"""

from pathlib import Path

import numpy as np

from comparison.scoring import Seen, cells
from comparison.training import Bench
from privoxel.arrays import FloatArray
from privoxel.store import atomic_path


def export_all(bench: Bench) -> None:
    """Write what is missing."""
    for cell in cells(bench):
        path = bench.output / "export" / f"{cell.name}.npz"
        if path.exists() or not cell.leaked:
            continue
        seen = Seen(bench, cell.network, cell.level)
        try:
            target, unseen = seen.target(cell.number), seen.unseen(cell.number)
            outside, around = _residuals(seen, "references"), _residuals(seen, "shadows")
        except FileNotFoundError as error:
            print(f"{cell.name}: waits for {error.filename}")
            continue
        draw, pool = bench.groups.target(cell.number, cell.leaked), len(bench.groups.pool)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                age=target.age[draw.judged],
                residual=target.error()[draw.judged],
                leaked_age=target.age[draw.leaked],
                leaked_residual=target.error()[draw.leaked],
                leaked_member=draw.members[draw.leaked],
                unseen_residual=unseen.error(),
                reference_residual=outside[:, draw.judged],
                reference_unseen_residual=outside[:, pool:],
                shadow_residual=around[:, draw.judged],
                shadow_inside=bench.groups.shadows()[:, draw.judged],
                scale=_spread_within_people(outside),
            )
    print(f"exported to {Path(bench.output / 'export')}")


def _residuals(seen: Seen, kind: str) -> FloatArray:
    """Return prediction − age (years) of references or shadows on pool and unseen people: models × scans."""
    counts = seen.bench.settings.trainings
    if not getattr(counts, kind):
        return np.empty((0, seen.bench.settings.people.pool + seen.bench.settings.people.unseen))
    models = seen.references() if kind == "references" else seen.shadows()
    return np.stack([models.error(model=k) for k in range(len(models.models))])


def _spread_within_people(residuals: FloatArray) -> float:
    """Return the SD over references within people, pooled: the scale of privoxel's likelihoods, years."""
    return float(np.sqrt(residuals.var(axis=0, ddof=1).mean())) if len(residuals) else 0.0
