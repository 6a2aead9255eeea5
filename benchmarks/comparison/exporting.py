"""What other tools are given: the same people, leak and reference predictions as privoxel's attacks, as npz.

One file a target, level and leak. They hold no membership of judged people, so that no adapter can use it.
"""

from pathlib import Path

import numpy as np

from comparison.scoring import Seen, cells
from comparison.training import Bench
from privoxel.arrays import FloatArray
from privoxel.signals.table import SignalTable
from privoxel.store import atomic_path


def export_all(bench: Bench) -> None:
    """Write what is missing."""
    for cell in cells(bench):
        path = bench.output / "export" / f"{cell.name}.npz"
        if path.exists() or not cell.leaked:
            continue
        seen = Seen(bench, cell.network, cell.level)
        try:
            target = seen.target(cell.number)
            unseen = seen.unseen(cell.number).error() if len(bench.groups.unseen) else np.empty(0)
            outside, around = _references(seen, cell.number), _shadows(seen)
            own = [seen.own_people(k) for k in bench.groups.references_of(cell.number)]
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
                unseen_residual=unseen,
                reference_residual=outside[:, draw.judged],
                reference_unseen_residual=outside[:, pool:],
                shadow_residual=around[:, draw.judged],
                shadow_inside=bench.groups.shadows()[:, draw.judged],
                scale=_spread_within_people(outside),
                reference_names=[f"references-{k}" for k in bench.groups.references_of(cell.number)],
                own_age=np.array([table.age for table in own]),
                own_residual=np.array([table.error() for table in own]),
                own_member=np.array([table.is_member() for table in own]),
            )
    print(f"exported to {Path(bench.output / 'export')}")


def _references(seen: Seen, number: int) -> FloatArray:
    """Return prediction − age (years) of a target's references on pool and unseen people: models × scans."""
    there = seen.bench.settings.trainings.references_a_target
    return _residuals(seen.references(number)) if there else _none(seen)


def _shadows(seen: Seen) -> FloatArray:
    """Return prediction − age (years) of the shadows on the pool: models × scans."""
    return _residuals(seen.shadows()) if seen.bench.settings.trainings.shadows else _none(seen)


def _residuals(models: SignalTable) -> FloatArray:
    return np.stack([models.error(model=k) for k in range(len(models.models))])


def _none(seen: Seen) -> FloatArray:
    return np.empty((0, seen.bench.settings.people.pool + seen.bench.settings.people.unseen))


def _spread_within_people(residuals: FloatArray) -> float:
    """Return the SD over references within people, pooled: the scale of privoxel's likelihoods, years."""
    return float(np.sqrt(residuals.var(axis=0, ddof=1).mean())) if len(residuals) else 0.0
