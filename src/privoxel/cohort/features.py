"""A table of features: one line a scan, numbers such as regional volumes, and the person's age.

Columns besides ``participant_id``, ``age``, ``sex``, ``site``, ``session`` and ``member`` are features where
they hold numbers. A model says which of them it reads, or the user does; text in one of those is a fault.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import final

import numpy as np

from privoxel.arrays import BoolArray, FloatArray
from privoxel.cohort.base import Cohort, Covariates, Grid, NoVolumes, ScanId
from privoxel.cohort.columns import check_required, one_of_many
from privoxel.cohort.names import id_fault
from privoxel.cohort.predictions import ALIASES
from privoxel.cohort.tables import (
    AGE_REMEDY,
    Row,
    age_unit_problem,
    label,
    parse_age,
    read_table,
    sex_of,
    site_of,
)
from privoxel.errors import CohortError, ConfigError, Problem, ProblemsError

ABOUT_PEOPLE = frozenset(
    {"participant_id", "age", "sex", "site", "session", "session_id", "member", "family_id", "predicted_age"}
)

NUMBER = "Write a number, or n/a where it is missing, or choose columns by --features"


@final
@dataclass(frozen=True)
class FeatureTable:
    """Scans with features; ``values`` is scans × ``columns``, NaN where the table has no number.

    ``cohort`` has no volumes. ``columns`` are in lower case, as tables are read. ``texts`` says by column
    which scans have something there that is neither a number nor missing; ``places``: the line of each scan.
    """

    cohort: Cohort
    columns: tuple[str, ...]
    values: FloatArray
    texts: Mapping[str, BoolArray] = field(default_factory=dict)
    places: tuple[str, ...] = ()

    def read(self, columns: Sequence[str]) -> FloatArray:
        """Return the values of ``columns``, scans × columns."""
        return self.values[:, [self.columns.index(name) for name in columns]]

    def without_texts(self, columns: Sequence[str]) -> "FeatureTable":
        """Return the scans with numbers, or nothing, in ``columns``; others become problems of the cohort.

        Raises:
            ProblemsError: if none is left.
        """
        scans = self.cohort.covariates.scans
        faulty, problems = np.zeros(len(scans), dtype=np.bool_), []
        for column in dict.fromkeys(columns):
            rows = self.texts.get(column, np.zeros(len(scans), dtype=np.bool_))
            faulty |= rows
            what = f"has no number in the column {column!r}, which the model reads"
            problems += [
                Problem(self.places[k], what, NUMBER, scans[k].participant) for k in np.flatnonzero(rows)
            ]
        if not problems:
            return self
        if faulty.all():
            found = one_of_many([*self.cohort.problems, *problems])
            raise ProblemsError("No line of the table of features can be used", found)
        cohort = self.cohort.select(~faulty)
        return FeatureTable(
            replace(cohort, problems=(*self.cohort.problems, *problems)),
            self.columns,
            self.values[~faulty],
            {name: rows[~faulty] for name, rows in self.texts.items()},
            tuple(place for place, gone in zip(self.places, faulty, strict=True) if not gone),
        )


def load_features(path: Path, *, skip_bad: bool = False) -> FeatureTable:
    """Return the features of a comma-, semicolon- or tab-separated table.

    Raises:
        ProblemsError: listing everything that is wrong with people and ages.
    """
    table = read_table(path, ())
    check_required(path.name, table.columns, ("participant_id", "age"), ALIASES)
    problems, kept = list(table.problems), list[tuple[Row, ScanId, float, str]]()
    unit = age_unit_problem((row.get("age") for row in table.rows), path.name)
    problems += [unit] if unit else []
    seen: set[ScanId] = set()
    for row, sex in zip(table.rows, sex_of(table.rows), strict=True):
        scan = ScanId(
            label(row.get("participant_id"), "sub"), label(row.get("session") or row.get("session_id"), "ses")
        )
        fault = _fault_of(scan, seen)
        try:
            age = parse_age(row.get("age"))
        except CohortError as error:
            fault = fault or (str(error), AGE_REMEDY)
        if fault:
            problems.append(Problem(f"{path.name} line {row.line}", *fault, scan.participant or None))
            continue
        seen.add(scan)
        kept.append((row, scan, age, sex))
    if not kept or (problems and not skip_bad):
        found = problems or [Problem(path.name, "has no lines below its header", "Write one line a scan")]
        raise ProblemsError(
            f"The table {path.name} cannot be used",
            one_of_many(found),
            "Continue with the rest by --skip-bad." if kept else "",
        )
    return _table(path, table.columns, kept, problems)


def _fault_of(scan: ScanId, seen: set[ScanId]) -> tuple[str, str] | None:
    """Return what is wrong with whom a line names, and what to do; None where nothing is."""
    if not scan.participant:
        return "has no participant_id", "Name the participant"
    if scan in seen:
        what = "has the same participant and session as another line"
        return what, "Tell them apart by a session column, or keep one"
    return id_fault(scan)


def _table(
    path: Path,
    columns: Sequence[str],
    kept: Sequence[tuple[Row, ScanId, float, str]],
    problems: Sequence[Problem],
) -> FeatureTable:
    names = [column for column in columns if column not in ABOUT_PEOPLE]
    cells = [[_number(row.get(column)) for column in names] for row, *_ in kept]
    texts = np.array([[cell is None for cell in row] for row in cells], dtype=np.bool_)
    values = np.array([[np.nan if cell is None else cell for cell in row] for row in cells])
    shape = (len(kept), len(names))
    values, texts = values.reshape(shape).astype(np.float64), texts.reshape(shape)
    numeric = np.isfinite(values).any(axis=0)
    names, values, texts = (
        [n for n, ok in zip(names, numeric, strict=True) if ok],
        values[:, numeric],
        texts[:, numeric],
    )
    people = Covariates(
        tuple(scan for _, scan, _, _ in kept),
        np.array([age for _, _, age, _ in kept]),
        np.array([sex for *_, sex in kept], dtype=np.str_),
        np.array([site_of(row) for row, *_ in kept], dtype=np.str_),
    )
    digest = hashlib.sha256("\0".join(names).encode() + values.tobytes()).hexdigest()
    nowhere = Grid((0, 0, 0), 0.0, (0.0, 0.0, 0.0))
    cohort = Cohort(path.stem, people, nowhere, NoVolumes(len(kept)), digest, problems=tuple(problems))
    return FeatureTable(
        cohort,
        tuple(names),
        values,
        {name: texts[:, k] for k, name in enumerate(names) if texts[:, k].any()},
        tuple(f"{path.name} line {row.line}" for row, *_ in kept),
    )


def _number(text: str) -> float | None:
    """Return the number in a cell: NaN where it is missing, None where it is none or not finite."""
    if not text:
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) and "_" not in text else None


def is_feature_table(path: Path) -> bool:
    """Return whether ``path`` is a table that names no image files.

    Raises:
        ConfigError: if it is a table of predictions, or of nothing but people.
    """
    if not path.is_file():
        return False
    columns = read_table(path, (), keep=()).columns
    if "path" in columns:
        return False
    if set(columns) - ABOUT_PEOPLE - {"sd"}:
        return True
    if "predicted_age" in columns:
        raise ConfigError(
            f"--cohort needs scans or features, got {path.name}, a table of predictions. Give it alone: "
            f"privoxel audit {path.name}."
        )
    raise ConfigError(
        f"--cohort needs scans (a column 'path') or features beside the people, got {path.name} with "
        f"{', '.join(columns) or 'no columns'}. Add them."
    )


def choose_columns(
    table: FeatureTable, asked: Sequence[str], named: Sequence[str] | None, count: int | None
) -> tuple[str, ...]:
    """Return the columns that a model reads, in its order.

    Args:
        table: the features.
        asked: what the user named, patterns such as ``gm_*`` among them; empty where nothing was.
        named: the columns that the model was fitted on, None where it does not say.
        count: how many it reads, None where it does not say.

    Raises:
        ConfigError: if a column is not there, or it cannot be told which are meant.
    """
    have = table.columns
    if asked:
        chosen = [
            name
            for pattern in asked
            for name in (have if any(sign in pattern for sign in "*?[") else [pattern.lower()])
            if name == pattern.lower() or fnmatchcase(name, pattern.lower())
        ]
    else:
        chosen = [name.lower() for name in named] if named is not None else list(have)
    if not have:
        raise ConfigError("The model needs columns of numbers, got a table with none. Add the features.")
    absent = [name for name in chosen if name not in have]
    if absent or not chosen:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        wanted = ", ".join(absent[:5]) or "as given"
        raise ConfigError(
            f"The model needs columns of numbers called {wanted}{more}, got a table without them. Its "
            f"columns are {', '.join(have[:12])}{', …' if len(have) > 12 else ''}."
        )
    if count is not None and len(chosen) != count:
        raise ConfigError(
            f"The model needs {count} features, got {len(chosen)} columns. Name them in the model's order by "
            "--features a,b,c (patterns such as gm_* are allowed)."
        )
    return tuple(chosen)
