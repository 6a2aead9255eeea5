"""One shadow model: a classifier learns who trained the shadow, and is asked who trained the target.

The adversary knows nobody's membership in the target but trains a model of its own, whose members it knows.
The first of ``Knowledge.models`` is that shadow; its scans are those the adversary drew (whoever is excluded
is left out). The classifier is one of the paper's, or a stack, trained on the shadow's signals and read on
the target's.

The paper's shadow is trained on 5,000 random participants of the 7,312 that trained the target, so half of
what it learns from is the target's own; a shadow of people disjoint from the target's is the honest case.
Which of the two it is is a matter of the design, not of this attack.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.attacks.base import Attack, Knowledge, Scored, ThreatModel, leaked_table, optional_signals
from privoxel.errors import SignalError
from privoxel.signals.table import Membership, SignalTable


@final
@dataclass(frozen=True)
class ShadowTransfer:
    """The scores and threshold of ``classifier``, fitted on the shadow's own members and non-members."""

    classifier: Attack

    needs_leaked = False
    needs_models = True
    one_shadow = True
    fewest = (0, 0)
    source = "Gupta et al. 2021, appendix E (one shadow model)"

    @property
    def name(self) -> str:
        """Key in configurations and files."""
        return f"shadow-{self.classifier.name}"

    @property
    def title(self) -> str:
        """What a reader sees."""
        return f"one shadow: {self.classifier.title}"

    @property
    def threat_model(self) -> ThreatModel:
        """What the adversary holds."""
        return self.classifier.threat_model

    @property
    def requires(self) -> frozenset[str]:
        """Signals that the tables of target and shadow must hold."""
        return self.classifier.requires

    @property
    def uses(self) -> frozenset[str]:
        """Signals that the classifier reads besides, where both tables hold them."""
        return optional_signals(self.classifier)

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return the classifier's scores of ``target``; leaked participants of the target are not used.

        Raises:
            SignalError: if there is no shadow, or one without members or non-members, or a signal is missing.
        """
        if knowledge.leaked is not None or target.missing(self.requires):
            leaked_table(self, target, knowledge)
        models = knowledge.models
        if models is None or not models.models:
            raise SignalError(
                f"Attack {self.name} needs reference models (one shadow), got none. "
                "Set [shadows] count in the configuration."
            )
        shadow = models.select(models.membership[0] != Membership.EXCLUDED)
        return self.classifier.score(target, Knowledge(leaked=shadow), rng)
