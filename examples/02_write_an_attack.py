"""Write an attack of your own and judge it on a fabricated table, in seconds.

python examples/02_write_an_attack.py
"""

from dataclasses import dataclass

import numpy as np

from privoxel import Knowledge, Scored, SignalTable, ThreatModel, get_attack
from privoxel.attacks.base import leaked_table
from privoxel.cohort.base import Covariates, ScanId
from privoxel.evaluation.metrics import auc
from privoxel.evaluation.scored import Evaluated
from privoxel.signals.table import LazyArray


@dataclass(frozen=True)
class CentredError:
    """|error| around the leaked members' median error: a model's own offset is not held against anyone."""

    name: str = "centred-error"
    title: str = "|error - median of leaked members|"
    threat_model: ThreatModel = ThreatModel.BLACK_BOX
    requires: frozenset[str] = frozenset({"prediction"})
    needs_leaked: bool = True
    source: str = "example"

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return minus the distance from the members' median error, years."""
        del rng
        leaked = leaked_table(self, target, knowledge)
        centre = np.median(leaked.error()[leaked.is_member()])
        known = -np.abs(leaked.error() - centre)
        return Scored(-np.abs(target.error() - centre), float(np.median(known)))


def fabricated_table(rng: np.random.Generator, scans: int = 400) -> SignalTable:
    """Return a table in which members' errors are smaller, around an offset of 2 years."""
    age = rng.uniform(45, 80, scans)
    members = rng.random(scans) < 0.5
    prediction = age + 2 + np.where(members, 1.5, 4.0) * rng.standard_normal(scans)
    people = Covariates(
        tuple(ScanId(f"{k:03d}") for k in range(scans)), age, np.full(scans, ""), np.full(scans, "")
    )
    values = {"prediction": LazyArray(prediction[None, None].astype(np.float32))}
    return SignalTable(people, ("fabricated",), ("last",), members[None].astype(np.int8), values)


def main() -> None:
    """Print the attack's AUC beside that of the plain threshold."""
    rng = np.random.default_rng(0)
    table = fabricated_table(rng)
    leaked, judged = table.select(np.arange(100)), table.select(np.arange(100, 400))
    for attack in (get_attack("abs-error"), CentredError()):
        scored = attack.score(judged.blinded(), Knowledge(leaked=leaked), rng)
        result = Evaluated(
            scored.scores[None], np.array([scored.threshold]), judged.is_member(), np.arange(300)
        )
        value, low, high, *_ = auc(result)
        print(f"{attack.title}: AUC {value:.3f} (95 % {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
