"""What an attack is: a pure function from tables to one score per scan.

Higher score = more likely a training participant, for every attack. An attack touches no disk
beyond its tables, trains no target and never reads the membership of what it scores.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from privoxel.arrays import Float32Array, FloatArray, IntArray
from privoxel.errors import SignalError
from privoxel.signals.table import PREDICTION, SignalTable


class ThreatModel(StrEnum):
    """What the adversary holds; the value is what tables and files print."""

    BLACK_BOX = "black-box"
    WHITE_BOX = "white-box"
    NO_MODEL = "no model (control)"
    MALICIOUS_LEARNER = "malicious learner (community models)"
    CURIOUS_SERVER = "curious server (local updates)"
    ACTIVE_LEARNER = "active learner (changes its updates)"


@dataclass(frozen=True)
class Knowledge:
    """What the adversary knows besides the scans to score.

    ``leaked``: scans of the same model whose membership the adversary knows. ``models``: reference models
    on the same scans. ``population``: scans known to be non-members. ``own_records``: a learner's own.
    """

    leaked: SignalTable | None = None
    models: SignalTable | None = None
    population: SignalTable | None = None
    own_records: SignalTable | None = None


class Scored(NamedTuple):
    """Scores of one attack: higher = more likely a training participant.

    ``scores`` has one finite value per scan of the target table; a score above ``threshold`` is called a
    member. ``notes`` says what the attack adapted or dropped, for the report.
    """

    scores: FloatArray
    threshold: float
    notes: tuple[str, ...] = ()


class Attack(Protocol):
    """A membership-inference attack; implementations are frozen dataclasses.

    Higher score = more likely a training participant.
    """

    @property
    def name(self) -> str:
        """Key in configurations and files."""
        ...

    @property
    def title(self) -> str:
        """What a reader sees."""
        ...

    @property
    def threat_model(self) -> ThreatModel:
        """What the adversary holds."""
        ...

    @property
    def requires(self) -> frozenset[str]:
        """Names of the signals it reads."""
        ...

    @property
    def needs_leaked(self) -> bool:
        """Whether it needs participants of known membership."""
        ...

    @property
    def source(self) -> str:
        """Paper, and its section or equation where that was checked."""
        ...

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return one score per scan of ``target`` and a threshold set without its membership."""
        ...


@runtime_checkable
class CrossFitted(Protocol):
    """An attack that can score leaked scans out of fold faster than by one ``score`` a fold."""

    def held_out(self, leaked: SignalTable, folds: IntArray, rng: np.random.Generator) -> FloatArray:
        """Return the score of each leaked scan by an attack that knows only the scans of other folds."""
        ...


class ReferenceKind(StrEnum):
    """What the models that an attack reads were taught; the value is how a sentence calls them."""

    SHADOW = "shadow models"
    DISTILLED = "distilled references"


def needs_models(attack: Attack) -> bool:
    """Return whether ``attack`` reads ``Knowledge.models``, that is, needs reference models to be trained."""
    return bool(getattr(attack, "needs_models", False))


def reference_kind(attack: Attack) -> ReferenceKind | None:
    """Return the kind of models that ``attack`` reads from ``Knowledge.models``; None if it reads none."""
    if not needs_models(attack):
        return None
    kind: ReferenceKind = getattr(attack, "reference_kind", ReferenceKind.SHADOW)
    return kind


def needs_one_shadow(attack: Attack) -> bool:
    """Return whether ``attack`` reads the signals of one shadow on the scans that shadow was drawn from."""
    return bool(getattr(attack, "one_shadow", False))


class Course(StrEnum):
    """Which weights of a training a table's snapshots are; the value is how a sentence calls them."""

    LAST = "the last weights"
    KEPT = "all kept snapshots"
    INTERVALS = "the intervals between kept snapshots"


def course_of(attack: Attack) -> Course:
    """Return which weights of the training ``attack`` reads signals of."""
    course: Course = getattr(attack, "course", Course.LAST)
    return course


def optional_signals(attack: Attack) -> frozenset[str]:
    """Return the signals that ``attack`` reads besides those it requires, where the model has them.

    They are extracted whenever the attack runs, so that its scores do not depend on which others run.
    """
    uses: frozenset[str] = getattr(attack, "uses", frozenset())
    return uses


def fewest_references(attack: Attack) -> tuple[int, int]:
    """Return how many references ``attack`` needs for every scan: trained on its participant, and not."""
    inside, outside = getattr(attack, "fewest", (0, int(needs_models(attack))))
    return inside, outside


def leaked_table(attack: Attack, target: SignalTable, knowledge: Knowledge) -> SignalTable:
    """Return the leaked table after checking that it and the target hold what ``attack`` reads.

    Raises:
        SignalError: if a signal is missing, or leaked participants are needed and there are none of a class.
    """
    lacking = target.missing(attack.requires)
    if lacking:
        raise SignalError(
            f"Attack {attack.name} needs the signals {', '.join(lacking)}, got a table without them. "
            "Add them to [signals] of the configuration."
        )
    leaked = knowledge.leaked
    if leaked is None:
        raise SignalError(
            f"Attack {attack.name} needs leaked participants of known membership, got none. "
            "Choose a design with leaked participants or an attack that needs none."
        )
    members = leaked.is_member()
    if members.all() or not members.any():
        raise SignalError(
            f"Attack {attack.name} needs leaked members and leaked non-members, got {int(members.sum())} and "
            f"{int((~members).sum())}. Leak at least one of each."
        )
    return leaked


def finite_signal(attack: Attack, table: SignalTable, signal: str, *, snapshot: int = -1) -> Float32Array:
    """Return ``signal`` of every scan (scans × value axes) in one snapshot, the last unless told.

    Raises:
        SignalError: saying how many scans have values that are not finite.
    """
    values = table.read(signal, snapshot=snapshot)
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if bad.any():
        raise SignalError(
            f"Attack {attack.name} needs finite {signal}, got {int(bad.sum())} scans with others (first "
            f"in row {int(bad.argmax())}). Extract it again or drop these scans."
        )
    return values


def finite_errors(attack: Attack, table: SignalTable, *, snapshot: int = -1) -> FloatArray:
    """Return the signed error, prediction minus age, of every scan (years) in one snapshot.

    Raises:
        SignalError: saying how many scans have a prediction that is not finite.
    """
    return finite_signal(attack, table, PREDICTION, snapshot=snapshot).astype(np.float64) - table.age
