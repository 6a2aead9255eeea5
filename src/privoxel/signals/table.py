"""What an adversary sees: models × snapshots × scans × values, memory-mapped.

A ``SignalTable`` is all that an attack may know. Signals are named: ``prediction`` (years),
``gradient-norms`` (one norm per parameter tensor), ``gradient:conv6`` (gradient of the squared
error, years², with respect to the weight of the layer conv6, in the tensor's own shape),
``activation:conv5``, ``projection:512`` (the whole gradient, projected to 512 numbers),
``product:NAME`` (the inner product of the whole gradient with a named direction), ``step:512`` (the mean
gradient of a step of training, projected as ``projection:512`` is and the same for every scan) and
``augmented:shift`` (predictions on moved copies of a scan, years; ``augmentation.py``). ``stated-sd`` is the
standard deviation (years) that a model states besides its prediction. Signed and absolute error follow from
prediction and age and are not stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from privoxel.arrays import BoolArray, FloatArray
from privoxel.cohort.base import Covariates, ScanId, row_index
from privoxel.errors import SignalError

PREDICTION = "prediction"
GRADIENT_NORMS = "gradient-norms"
GRADIENT = "gradient:"
ACTIVATION = "activation:"
PROJECTION = "projection:"
PRODUCT = "product:"
STEP = "step:"
AUGMENTED = "augmented:"
STATED_SD = "stated-sd"
SCALARS = (PREDICTION, STATED_SD)
"""Signals of one number a scan."""


class Membership(IntEnum):
    """State of a participant with respect to one model."""

    NON_MEMBER = 0
    MEMBER = 1
    EXCLUDED = -1


@final
@dataclass(frozen=True)
class LazyArray:
    """An array on disk (``.npy``, memory-mapped, pickled as its path) or in memory.

    Axes: models × snapshots × scans × value axes. ``rows`` selects scans of the stored array, so that
    a selection of a table never copies.
    """

    source: Path | npt.NDArray[Any]
    rows: npt.NDArray[np.int64] | None = None

    @property
    def _stored(self) -> npt.NDArray[Any]:
        if isinstance(self.source, Path):
            return np.load(self.source, mmap_mode="r")
        return self.source

    @property
    def shape(self) -> tuple[int, ...]:
        """Models, snapshots, scans, then the shape of one value."""
        stored = self._stored.shape
        return stored if self.rows is None else (*stored[:2], len(self.rows), *stored[3:])

    def read(self, model: int = 0, snapshot: int = -1) -> npt.NDArray[Any]:
        """Return the values of all selected scans: scans × value axes, in the stored precision."""
        block = self._stored[model, snapshot]
        return np.array(block) if self.rows is None else np.array(block[self.rows])

    def select(self, rows: npt.NDArray[np.int64]) -> "LazyArray":
        """Return the array of the scans at ``rows``."""
        return replace(self, rows=rows if self.rows is None else self.rows[rows])


@final
@dataclass(frozen=True)
class SignalTable:
    """What an adversary sees of some models on some scans.

    ``membership`` holds one ``Membership`` per (model, scan); every scan of a participant has that
    participant's state. ``layers`` names the parameter tensors behind ``gradient-norms``. ``snapshots``
    names the axis of stored weights (epochs or rounds), oldest first.
    """

    covariates: Covariates
    models: tuple[str, ...]
    snapshots: tuple[str, ...]
    membership: npt.NDArray[np.int8]
    values: Mapping[str, LazyArray] = field(repr=False)
    tensors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        expected = (len(self.models), len(self.covariates))
        if self.membership.shape != expected:
            raise SignalError(
                f"SignalTable needs membership of shape {expected}, got {self.membership.shape}. "
                "Give one state per model and scan."
            )
        axes = (len(self.models), len(self.snapshots), len(self.covariates))
        for name, array in self.values.items():
            if array.shape[:3] != axes:
                raise SignalError(
                    f"Signal {name} needs models × snapshots × scans = {axes}, got {array.shape[:3]}. "
                    "Extract it again for these scans."
                )
            if name in SCALARS and array.shape != axes:
                raise SignalError(
                    f"Signal {name} needs one number a scan, of shape {axes}, got {array.shape}. "
                    "Take its last axis away: values[..., 0]."
                )

    def __len__(self) -> int:
        return len(self.covariates)

    @property
    def scans(self) -> tuple[ScanId, ...]:
        """Identity of each row."""
        return self.covariates.scans

    @property
    def age(self) -> FloatArray:
        """Age of each scan, years."""
        return self.covariates.age

    def is_member(self, model: int = 0) -> BoolArray:
        """Return which scans belong to training participants of ``model``."""
        return np.asarray(self.membership[model] == Membership.MEMBER)

    def missing(self, required: Sequence[str] | frozenset[str]) -> tuple[str, ...]:
        """Return which of the ``required`` signals this table lacks."""
        return tuple(sorted(name for name in required if name not in self.values))

    def read(self, name: str, *, model: int = 0, snapshot: int = -1) -> npt.NDArray[np.float32]:
        """Return one signal for every scan: scans × value axes, float32.

        Raises:
            SignalError: if the table does not hold the signal.
        """
        if name not in self.values:
            have = ", ".join(sorted(self.values)) or "none"
            raise SignalError(
                f"SignalTable needs the signal {name}, got {have}. Add it to [signals] of the configuration."
            )
        return self.values[name].read(model, snapshot).astype(np.float32)

    def error(self, *, model: int = 0, snapshot: int = -1) -> FloatArray:
        """Return the signed error, prediction minus age, of every scan (years)."""
        return self.read(PREDICTION, model=model, snapshot=snapshot).astype(np.float64) - self.age

    def select(self, rows: npt.ArrayLike) -> "SignalTable":
        """Return the table of the scans at ``rows`` (indices or a Boolean mask)."""
        index = row_index(rows, len(self))
        return replace(
            self,
            covariates=self.covariates.select(index),
            membership=self.membership[:, index],
            values={name: array.select(index) for name, array in self.values.items()},
        )

    def blinded(self) -> "SignalTable":
        """Return the table with every membership hidden: what an attack is given to score."""
        return replace(self, membership=np.full_like(self.membership, Membership.EXCLUDED))

    def with_membership(self, is_member: npt.ArrayLike) -> "SignalTable":
        """Return the table with the membership of its first model replaced by a Boolean mask."""
        states = self.membership.copy()
        states[0] = np.where(np.asarray(is_member, dtype=np.bool_), Membership.MEMBER, Membership.NON_MEMBER)
        return replace(self, membership=states)
