"""What attacks on reference models have in common: residuals, masks of who trained which model, ratios.

``Knowledge.models`` holds K reference models on the scans to score (and on the leaked ones); rows are matched
by scan, never by position. A reference is IN for a scan if it was trained on that participant, OUT if not;
whoever is excluded from a model is neither. IN and OUT are Boolean masks beside the values, never values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt

from privoxel.arrays import BoolArray, FloatArray, IntArray
from privoxel.attacks.base import Attack, Knowledge, Scored, ThreatModel, leaked_table
from privoxel.attacks.thresholds import MEDIAN_THRESHOLD, best_threshold
from privoxel.errors import SignalError
from privoxel.signals.table import PREDICTION, Membership, SignalTable


class Compared(NamedTuple):
    """Residuals (prediction − age, years) of some scans under the target and under K references.

    ``target``: scans. ``models``: references × scans. ``inside``/``outside``: whether the reference was
    trained on the scan's participant, or not; both false where that is excluded.
    """

    target: FloatArray
    models: FloatArray
    inside: BoolArray
    outside: BoolArray


@final
@dataclass(frozen=True)
class References:
    """The residuals of K reference models on all scans they are known for."""

    name: str
    table: SignalTable
    residuals: FloatArray

    @property
    def inside(self) -> BoolArray:
        """References × scans: trained on that participant."""
        return np.asarray(self.table.membership == Membership.MEMBER)

    @property
    def outside(self) -> BoolArray:
        """References × scans: not trained on that participant."""
        return np.asarray(self.table.membership == Membership.NON_MEMBER)

    def everything(self) -> Compared:
        """Return all scans of the references; the target's residuals are not known there (NaN)."""
        unknown = np.full(len(self.table), np.nan)
        return Compared(unknown, self.residuals, self.inside, self.outside)

    def compare(self, scans: SignalTable) -> Compared:
        """Return target and references on ``scans``, matched by scan.

        Raises:
            SignalError: if a residual is not finite, or the references lack a scan.
        """
        rows = _rows(self.name, scans, self.table)
        return Compared(
            residuals_of(self.name, scans)[0],
            self.residuals[:, rows],
            self.inside[:, rows],
            self.outside[:, rows],
        )


def references_of(attack: Attack, target: SignalTable, knowledge: Knowledge) -> References:
    """Return the references after checking that all tables hold what ``attack`` reads.

    Raises:
        SignalError: if there are no reference models, or a signal or a leaked class is missing.
    """
    lacking = target.missing(attack.requires)
    if lacking or knowledge.leaked is not None:
        leaked_table(attack, target, knowledge)
    models = knowledge.models
    if models is None or not models.models:
        raise SignalError(
            f"Attack {attack.name} needs reference models on the scans to score, got none. "
            "Set [shadows] count in the configuration."
        )
    return References(attack.name, models, residuals_of(attack.name, models))


class Scorer(NamedTuple):
    """How an attack scores any scans, once what it reads of the references is settled, and what it notes."""

    score: Callable[[SignalTable], FloatArray]
    notes: tuple[str, ...] = ()


class OnReferences:
    """What attacks that read predictions of reference models declare; each is scored by ``scored_by``."""

    threat_model = ThreatModel.BLACK_BOX
    requires = frozenset({PREDICTION})
    needs_leaked = False
    needs_models = True


def scored_by(
    attack: Attack,
    target: SignalTable,
    knowledge: Knowledge,
    scorer: Callable[[References], Scorer],
) -> Scored:
    """Return the scores of ``target`` by ``scorer`` and a threshold set on the leaked scans' scores by it.

    Raises:
        SignalError: if references, a signal, or references of a kind are missing.
    """
    score, said = scorer(references_of(attack, target, knowledge))
    scores, leaked = score(target), knowledge.leaked
    threshold = threshold_from(scores, None if leaked is None else score(leaked), leaked)
    return Scored(scores, threshold.value, (*said, *threshold.notes))


def residuals_of(name: str, table: SignalTable) -> FloatArray:
    """Return the residuals (prediction − age, years) of all models of ``table``: models × scans.

    Raises:
        SignalError: if a value is not finite.
    """
    residuals = np.stack([table.error(model=k) for k in range(len(table.models))])
    bad = int((~np.isfinite(residuals)).any(axis=0).sum())
    if bad:
        raise SignalError(
            f"Attack {name} needs finite {PREDICTION}, got {bad} scans with other values. "
            "Extract the signal again or drop these scans."
        )
    return residuals


def enough(name: str, mask: BoolArray, fewest: int, kind: str, *, of: SignalTable) -> None:
    """Raise ``SignalError`` if a scan has fewer than ``fewest`` references of the ``kind`` in ``mask``."""
    short = np.flatnonzero(mask.sum(axis=0) < fewest)
    if len(short):
        shown = ", ".join(str(of.scans[row]) for row in short[:3])
        raise SignalError(
            f"Attack {name} needs at least {fewest} {kind} references for every scan, got fewer for "
            f"{len(short)} scans ({shown}). Train more shadow models, or choose a design in which every "
            "participant is inside some and outside others."
        )


def masked_mean(values: FloatArray, mask: npt.NDArray[np.bool_]) -> FloatArray:
    """Return the mean over the first axis of the values where ``mask`` is true (NaN where it never is)."""
    total = np.where(mask, values, 0.0).sum(axis=0)
    count = mask.sum(axis=0)
    return np.divide(total, count, out=np.full(values.shape[1:], np.nan), where=count > 0)


class Threshold(NamedTuple):
    """A threshold and what is to be said of it."""

    value: float
    notes: tuple[str, ...]


def threshold_from(
    scores: FloatArray, leaked_scores: FloatArray | None, leaked: SignalTable | None
) -> Threshold:
    """Return the best threshold on the leaked scans' scores, or the median of ``scores`` with nothing leaked.

    For scores in which no parameter is fitted to membership, so that the leaked ones are out of fold as
    they stand.
    """
    if leaked is None or leaked_scores is None:
        return Threshold(float(np.median(scores)), (MEDIAN_THRESHOLD,))
    return Threshold(best_threshold(leaked_scores, leaked.is_member()), ())


def _rows(name: str, scans: SignalTable, table: SignalTable) -> IntArray:
    position = {scan: row for row, scan in enumerate(table.scans)}
    lacking = [scan for scan in scans.scans if scan not in position]
    if lacking:
        raise SignalError(
            f"Attack {name} needs reference models on all scans, got none on {len(lacking)} of them "
            f"({', '.join(map(str, lacking[:3]))}). Extract the references' signals on these scans."
        )
    return np.array([position[scan] for scan in scans.scans], dtype=np.int64)
