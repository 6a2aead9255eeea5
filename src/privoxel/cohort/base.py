"""A cohort: who was scanned, how old they were, and a lazy way to their volumes.

A *participant* is a person, the unit of membership, splits and intervals. A *scan* is one image
of a participant: (participant, session, rec). Every row of a cohort is a scan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Protocol, final, runtime_checkable

import numpy as np
import numpy.typing as npt

from privoxel.arrays import Float32Array, FloatArray, IntArray
from privoxel.errors import CohortError, Problem


class ScanId(NamedTuple):
    """Identity of one image: BIDS labels without their prefixes, empty where a label is absent."""

    participant: str
    session: str = ""
    rec: str = ""

    def __str__(self) -> str:
        parts = [f"sub-{self.participant}"]
        parts += [f"ses-{self.session}"] if self.session else []
        parts += [f"rec-{self.rec}"] if self.rec else []
        return "_".join(parts)


@dataclass(frozen=True)
class Grid:
    """The voxel grid a model reads: RAS+ orientation, isotropic voxels.

    ``shape`` counts voxels (x left to right, y back to front, z down to up); ``voxel_mm`` is the edge of a
    voxel in mm; ``origin_mm`` is the world position (MNI152, mm) of the centre of voxel (0, 0, 0).
    """

    shape: tuple[int, int, int]
    voxel_mm: float
    origin_mm: tuple[float, float, float]

    @property
    def affine(self) -> FloatArray:
        """Voxel-to-world matrix, 4 × 4, mm."""
        matrix = np.diag([self.voxel_mm] * 3 + [1.0])
        matrix[:3, 3] = self.origin_mm
        return matrix

    @classmethod
    def mni(cls, voxel_mm: float) -> "Grid":
        """Return the grid of the paper (91×109×91 at 2 mm) or its counterpart at another resolution.

        4 mm gives 40×48×40 (four poolings end on 2×3×2, as five do at 2 mm), 6 mm 27×32×27 and 3 mm
        54×64×54; any other edge covers the same box.
        """
        known = {
            2.0: ((91, 109, 91), (-90.0, -126.0, -72.0)),
            3.0: ((54, 64, 54), (-81.0, -114.0, -72.0)),
            4.0: ((40, 48, 40), (-80.0, -112.0, -72.0)),
            6.0: ((27, 32, 27), (-78.0, -111.0, -72.0)),
        }
        if float(voxel_mm) in known:
            shape, origin = known[float(voxel_mm)]
            return cls(shape, float(voxel_mm), origin)
        if not 1.0 <= voxel_mm <= 10.0:
            raise CohortError(f"Grid needs voxels of 1 to 10 mm, got {voxel_mm}. Choose 2, 3, 4 or 6.")
        x, y, z = (int(np.ceil(extent / voxel_mm)) for extent in (160.0, 192.0, 160.0))
        return cls((x, y, z), float(voxel_mm), (-80.0, -113.0, -72.0))


@dataclass(frozen=True)
class Covariates:
    """What is known of each scan besides its voxels; all arrays are aligned with ``scans``.

    ``age`` is in years; ``sex`` is "F", "M" or "" (unknown); ``site`` is a label or "". ``columns`` holds
    further numbers by name, NaN where one is not known.
    """

    scans: tuple[ScanId, ...]
    age: FloatArray
    sex: npt.NDArray[np.str_]
    site: npt.NDArray[np.str_]
    columns: Mapping[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.scans)
        for name, values in {"age": self.age, "sex": self.sex, "site": self.site, **self.columns}.items():
            if values.shape != (n,):
                raise CohortError(
                    f"Covariates need one {name} for each of {n} scans, got shape {values.shape}."
                )
        if len(set(self.scans)) != n:
            raise CohortError("Covariates need distinct scans, got the same scan twice. Drop the duplicate.")

    def __len__(self) -> int:
        return len(self.scans)

    @cached_property
    def participants(self) -> tuple[str, ...]:
        """Distinct participants, in the order of their first scan."""
        return tuple(dict.fromkeys(scan.participant for scan in self.scans))

    @cached_property
    def participant_index(self) -> IntArray:
        """For each scan the position of its participant in ``participants``; not to be written to."""
        position = {name: i for i, name in enumerate(self.participants)}
        index = np.array([position[scan.participant] for scan in self.scans], dtype=np.int64)
        index.flags.writeable = False
        return index

    def select(self, rows: npt.ArrayLike) -> "Covariates":
        """Return the covariates of the scans at ``rows`` (indices or a Boolean mask)."""
        index = row_index(rows, len(self))
        scans = tuple(self.scans[i] for i in index)
        columns = {name: values[index] for name, values in self.columns.items()}
        return Covariates(scans, self.age[index], self.sex[index], self.site[index], columns)


def row_index(rows: npt.ArrayLike, length: int) -> IntArray:
    """Return integer positions for ``rows`` given as indices or as a Boolean mask of ``length``."""
    array = np.asarray(rows)
    if array.dtype == np.bool_:
        if array.shape != (length,):
            raise ValueError(f"A mask over {length} rows needs shape ({length},), got {array.shape}.")
        return np.flatnonzero(array)
    return array.astype(np.int64).reshape(-1)


class VolumeSource(Protocol):
    """Volumes by row: pure, callable from any thread or process, in any order."""

    def __len__(self) -> int: ...

    def volume(self, row: int) -> Float32Array:
        """Return the volume of scan ``row``, preprocessed, on the cohort's grid."""
        ...


@runtime_checkable
class BulkSource(VolumeSource, Protocol):
    """A source that reads several volumes at once faster than one by one."""

    def read_into(self, rows: IntArray, out: Float32Array) -> None:
        """Write the volumes of ``rows`` to ``out`` (rows, x, y, z)."""
        ...


@final
@dataclass(frozen=True)
class NoVolumes:
    """Scans of which only a table's values are known."""

    scans: int

    def __len__(self) -> int:
        return self.scans

    def volume(self, row: int) -> Float32Array:
        """Raise ``CohortError``: there are no voxels."""
        raise CohortError(f"Scan {row} needs a volume, got a table without scans. Audit the scans instead.")


def _fill(source: VolumeSource, rows: IntArray, out: Float32Array) -> None:
    if isinstance(source, BulkSource):
        source.read_into(rows, out)
        return
    for k, row in enumerate(rows):
        out[k] = source.volume(int(row))


@final
@dataclass(frozen=True)
class Cohort:
    """Scans with ages, and lazy access to their volumes on one grid.

    ``history`` lists the preprocessing steps in order; ``problems`` the scans left out and why;
    ``is_simulated`` decides whether images may be shown in a report; ``fingerprint`` changes whenever a
    voxel could (it names the cache file).
    """

    name: str
    covariates: Covariates
    grid: Grid
    source: VolumeSource
    fingerprint: str
    history: tuple[str, ...] = ()
    is_simulated: bool = False
    problems: tuple[Problem, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if len(self.source) != len(self.covariates):
            raise CohortError(
                f"Cohort {self.name} needs one volume a scan, got {len(self.source)} volumes for "
                f"{len(self.covariates)} scans."
            )

    def __len__(self) -> int:
        return len(self.covariates)

    def __repr__(self) -> str:
        x, y, z = self.grid.shape
        ages = self.covariates.age
        span = f"{ages.min():.0f}-{ages.max():.0f} years" if len(self) else "empty"
        return (
            f"Cohort({self.name}: {len(self.covariates.participants)} participants, {len(self)} scans, "
            f"{x}×{y}×{z} at {self.grid.voxel_mm:g} mm, {span})"
        )

    def volume(self, row: int) -> Float32Array:
        """Return the preprocessed volume of scan ``row``: float32, shape ``grid.shape``."""
        return self.source.volume(row)

    def batch(self, rows: Sequence[int] | IntArray) -> Float32Array:
        """Return the volumes of ``rows`` with a channel axis: (rows, 1, x, y, z), float32."""
        out = np.empty((len(rows), 1, *self.grid.shape), dtype=np.float32)
        _fill(self.source, np.asarray(rows, dtype=np.int64), out[:, 0])
        return out

    def select(self, rows: npt.ArrayLike) -> "Cohort":
        """Return the cohort of the scans at ``rows`` (indices or a Boolean mask)."""
        index = row_index(rows, len(self))
        return replace(
            self,
            covariates=self.covariates.select(index),
            source=_Subset(self.source, index),
            fingerprint=f"{self.fingerprint}[{','.join(map(str, index))}]",
        )

    def with_columns(self, columns: Mapping[str, npt.ArrayLike]) -> "Cohort":
        """Return the same with further numbers of each scan by name, NaN where one is not known.

        Raises:
            CohortError: if there is not one number for each scan.
        """
        further = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
        people = self.covariates
        return replace(self, covariates=replace(people, columns={**people.columns, **further}))

    def rows_of(self, participants: Sequence[str]) -> IntArray:
        """Return the rows of all scans of ``participants``, in cohort order."""
        wanted = set(participants)
        return np.flatnonzero(
            np.array([s.participant in wanted for s in self.covariates.scans], dtype=np.bool_)
        )


@final
@dataclass(frozen=True)
class _Subset:
    source: VolumeSource
    rows: IntArray

    def __len__(self) -> int:
        return len(self.rows)

    def volume(self, row: int) -> Float32Array:
        return self.source.volume(int(self.rows[row]))

    def read_into(self, rows: IntArray, out: Float32Array) -> None:
        _fill(self.source, self.rows[rows], out)
