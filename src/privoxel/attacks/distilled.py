"""Distilled references: models taught the target's predictions on people who are not judged.

A student answers the question what *this* model would say of a scan, had it not been trained on it: it is
drawn towards the target's offset and errors, and has never seen the scan. A shadow is a reference of the
recipe, a student one of the target. Any attack that reads references from outside can be given students; the
rank among them is attack D of Ye et al. 2022, the difference of absolute residuals its form for one student.

Students are made by the recipe, not here: ``[shadows] distilled``, for each target its own.
"""

from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from privoxel.attacks.base import Attack, Knowledge, ReferenceKind, Scored, ThreatModel
from privoxel.signals.table import SignalTable


@final
@dataclass(frozen=True)
class Distilled:
    """The scores and threshold of ``attack`` with the target's students as its reference models."""

    attack: Attack

    needs_models = True
    reference_kind = ReferenceKind.DISTILLED
    source = "Ye et al. 2022 (CCS), attack D (distilled models); on the residual"

    @property
    def name(self) -> str:
        """Key in configurations and files."""
        return f"distilled-{self.attack.name}"

    @property
    def title(self) -> str:
        """What a reader sees."""
        return f"distilled references: {self.attack.title}"

    @property
    def threat_model(self) -> ThreatModel:
        """What the adversary holds: predictions suffice to teach a student."""
        return self.attack.threat_model

    @property
    def requires(self) -> frozenset[str]:
        """Signals that the tables of target and students must hold."""
        return self.attack.requires

    @property
    def needs_leaked(self) -> bool:
        """Whether participants of known membership are needed."""
        return self.attack.needs_leaked

    @property
    def fewest(self) -> tuple[int, int]:
        """Students that saw, and did not see, every scan."""
        inside, outside = getattr(self.attack, "fewest", (0, 1))
        return inside, outside

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return the scores of ``attack``, under this attack's name in errors.

        Raises:
            SignalError: if students, a signal, or what ``attack`` needs besides are missing.
        """
        attack: Any = self.attack
        scored: Scored = replace(attack, name=self.name).score(target, knowledge, rng)
        return scored
