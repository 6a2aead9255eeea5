"""|error| after centring: how far a scan lies from where this model puts its members (``centring.py``)."""

from dataclasses import dataclass
from typing import final

import numpy as np

from privoxel.attacks.base import Knowledge, Scored, ThreatModel, finite_errors, leaked_table
from privoxel.attacks.centring import centred, fit_centre
from privoxel.attacks.folds import leaked_folds
from privoxel.attacks.thresholds import best_threshold
from privoxel.signals.table import PREDICTION, SignalTable


@final
@dataclass(frozen=True)
class CentredError:
    """−|error − centre| (years); the centre is a median, with ``curve`` a smooth function of age on top."""

    name: str
    title: str
    curve: bool

    threat_model = ThreatModel.BLACK_BOX
    requires = frozenset({PREDICTION})
    needs_leaked = True
    source = "privoxel; loss threshold of Yeom et al. 2018, adversary 2, on centred errors"

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return −|centred error| in years and the best threshold on out-of-fold scores.

        Raises:
            SignalError: if a signal or leaked participants are missing, or an error is not finite.
        """
        leaked = leaked_table(self, target, knowledge)
        known, unknown = finite_errors(self, leaked), finite_errors(self, target)
        members, folds = leaked.is_member(), leaked_folds(leaked, rng)
        held_out = -np.abs(centred(known, leaked.age, members, folds, curve=self.curve))
        centre = fit_centre(known, leaked.age, members, curve=self.curve)
        return Scored(-np.abs(unknown - centre(target.age)), best_threshold(held_out, members))


CENTRED_ERROR = CentredError("centred-error", "|error| around the members' median", curve=False)
CENTRED_CURVE = CentredError("centred-curve", "|error| around the members' age curve", curve=True)

ATTACKS = (CENTRED_ERROR, CENTRED_CURVE)
