"""A table of predictions: who was scanned, how old they were, what the model said, who trained it.

One line a scan, with the columns ``participant_id``, ``age``, ``predicted_age`` and ``member``, and where
they exist ``session``, ``sex``, ``site``, ``sd`` (the standard deviation that the model itself states, years)
and ``reference_1``, ``reference_2``, … (what other models said that were not trained on the person, years;
empty where one was). Every fault of the table is told at once; faults that many lines share are one message.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt

from privoxel.arrays import BoolArray, FloatArray
from privoxel.cohort.base import Covariates, ScanId
from privoxel.cohort.columns import check_required, one_of_many
from privoxel.cohort.names import id_fault
from privoxel.cohort.splits import EXCLUDED, MEMBER, NON_MEMBER
from privoxel.cohort.tables import (
    OLDEST,
    TOP_CODED,
    Row,
    Table,
    age_unit_problem,
    label,
    read_table,
    sex_of,
    site_of,
)
from privoxel.errors import CohortError, Problem, ProblemsError

REQUIRED = ("participant_id", "age", "predicted_age", "member")
REFERENCES = tuple(f"reference_{number}" for number in range(1, 65))
"""Columns of reference models, of which a table has none or some."""
USED = frozenset({*REQUIRED, *REFERENCES, "session", "session_id", "sex", "site", "sd"})
ALIASES = {
    "participant_id": ("participant", "subject", "subject_id", "sub", "id", "eid", "patient_id"),
    "age": ("true_age", "chronological_age", "age_years", "label", "y", "y_true", "target"),
    "predicted_age": ("prediction", "predicted", "pred", "brain_age", "brainage", "y_pred", "output"),
    "member": ("is_member", "membership", "train", "training", "in_train", "split", "set", "group"),
}
MEMBER_WORDS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "y", "member", "train", "training"), MEMBER),
    **dict.fromkeys(("0", "0.0", "false", "no", "n", "non-member", "non_member", "nonmember"), NON_MEMBER),
    **dict.fromkeys(("test", "testing", "unseen", "holdout", "held-out"), NON_MEMBER),
    **dict.fromkeys(("", "-1", "excluded", "unknown", "val", "validation"), EXCLUDED),
}
MOST_SITES = 100


@final
@dataclass(frozen=True)
class Predictions:
    """What a table says of each usable scan; all arrays are aligned with ``covariates``.

    ``prediction``: years. ``state``: 1 member, 0 non-member, -1 excluded. ``sd``: years, None where the table
    has no such column. ``references``: scans × reference models, years, NaN where a model was trained on the
    person; None without such columns. ``problems``: lines that were left out, and why.
    """

    covariates: Covariates
    prediction: FloatArray
    state: npt.NDArray[np.int8]
    sd: FloatArray | None = None
    problems: tuple[Problem, ...] = ()
    references: FloatArray | None = None

    def select(self, rows: BoolArray) -> "Predictions":
        """Return the scans at ``rows``."""
        sd = None if self.sd is None else self.sd[rows]
        references = None if self.references is None else self.references[rows]
        chosen = self.covariates.select(rows)
        return Predictions(chosen, self.prediction[rows], self.state[rows], sd, self.problems, references)


class _Line(NamedTuple):
    """One usable line."""

    row: Row
    scan: ScanId
    age: float
    prediction: float
    sd: float
    state: int
    references: tuple[float, ...]


def load_predictions(
    path: Path, *, skip_bad: bool = False, needs_member: bool = True, members_only: bool = False
) -> Predictions:
    """Return the predictions of a comma-, semicolon- or tab-separated table.

    Args:
        path: the table.
        skip_bad: leave out faulty lines instead of refusing the table; faults of whole columns still count.
        needs_member: read the column ``member``; else nobody has a state yet, whatever the table says.
        members_only: do without non-members.

    Raises:
        CohortError: if there are members but nobody else, or the other way round.
        ProblemsError: listing everything that is wrong with the table.
    """
    required = [name for name in REQUIRED if needs_member or name != "member"]
    table = read_table(path, (), keep=USED)
    check_required(path.name, table.columns, required, ALIASES)
    sexes = dict(zip((row.line for row in table.rows), sex_of(table.rows), strict=True))
    columns = [*_column_problems(path.name, table, sexes)]
    lines, problems = _lines(path.name, table, needs_member=needs_member)
    lines, repeated = _without_repeats(path.name, lines)
    problems = [*table.problems, *problems, *repeated]
    if columns or (problems and not skip_bad):
        footer = "" if columns else "Continue with the rest by --skip-bad."
        title = f"The table {path.name} cannot be used"
        raise ProblemsError(title, [*columns, *one_of_many(problems)], footer)
    if needs_member:
        states = [line.state for line in lines]
        check_groups(path.name, states, left_out=len(problems), members_only=members_only)
    sd = np.array([line.sd for line in lines]) if "sd" in table.columns else None
    covariates = Covariates(
        tuple(line.scan for line in lines),
        np.array([line.age for line in lines]),
        np.array([sexes[line.row.line] for line in lines], dtype=np.str_),
        np.array([site_of(line.row) for line in lines], dtype=np.str_),
    )
    prediction = np.array([line.prediction for line in lines])
    state = np.array([line.state for line in lines], np.int8)
    references = np.array([line.references for line in lines]) if reference_columns(table) else None
    return Predictions(covariates, prediction, state, sd, tuple(problems), references)


def reference_columns(table: Table) -> tuple[str, ...]:
    """Return the columns of ``table`` that hold reference models' answers."""
    return tuple(name for name in REFERENCES if name in table.columns)


def _column_problems(place: str, table: Table, sexes: dict[int, str]) -> Iterable[Problem]:
    """Yield what is wrong with whole columns, which no line can mend."""
    if not table.rows:
        yield Problem(place, "has no lines below its header", "Write one line a scan")
    for column in ("age", "predicted_age"):
        problem = age_unit_problem((row.get(column) for row in table.rows), place, column)
        if problem:
            yield problem
    codes = {text for row in table.rows if (text := row.get("sex"))[:1].isdigit() and not sexes[row.line]}
    if codes:
        shown = ", ".join(sorted(codes)[:5])
        yield Problem(
            place,
            f"has a column 'sex' with codes that differ between studies ({shown})",
            "Write F and M, and n/a where it is not known",
        )
    sites = {site_of(row) for row in table.rows} - {""}
    if len(sites) > MOST_SITES and len(sites) > len(table.rows) / 4:
        yield Problem(
            place,
            f"has a column 'site' with {len(sites)} different values for {len(table.rows)} scans",
            "Name scanners or centres in it, or remove it",
        )


def _lines(place: str, table: Table, *, needs_member: bool) -> tuple[list[_Line], list[Problem]]:
    lines, problems = [], []
    has_sd, references = "sd" in table.columns, reference_columns(table)
    for row in table.rows:
        faults: list[tuple[str, str]] = []
        state = MEMBER_WORDS.get(row.get("member").lower()) if needs_member else EXCLUDED
        line = _line(row, state, faults, has_sd=has_sd, references=references)
        name = row.get("participant_id")
        problems += [
            Problem(f"{place} line {row.line}", what, remedy, label(name, "sub") or None)
            for what, remedy in faults
        ]
        if line is not None:
            lines.append(line)
    return lines, problems


def _line(
    row: Row, state: int | None, faults: list[tuple[str, str]], *, has_sd: bool, references: Sequence[str]
) -> _Line | None:
    """Return the line if it can be used; what is wrong with it is added to ``faults``."""
    participant = label(row.get("participant_id"), "sub")
    if not participant:
        faults.append(("has no participant_id", "Name the participant"))
    scan = ScanId(participant, label(row.get("session") or row.get("session_id"), "ses"))
    outside = id_fault(scan)
    if outside:
        faults.append(outside)
    if state is None:
        faults.append(
            ("has a member value that is neither yes nor no", "Write 1, 0, or n/a for who is to be left out")
        )
    age = _age(row.get("age"), faults)
    prediction = _number(row.get("predicted_age"))
    if prediction is None:
        missing = not row.get("predicted_age")
        what = "has no predicted_age" if missing else "has a predicted_age that is not a number"
        faults.append((what, "Give the model's answer in years"))
    sd = _number(row.get("sd")) if has_sd else None
    if has_sd and not (sd is not None and sd > 0):
        faults.append(("has an sd that is not a positive number", "Give it in years, or remove the column"))
    answers = _references(row, references, faults)
    if faults or age is None or prediction is None or state is None:
        return None
    return _Line(row, scan, age, prediction, sd or np.nan, state, answers)


def _references(row: Row, columns: Sequence[str], faults: list[tuple[str, str]]) -> tuple[float, ...]:
    """Return the reference models' answers, NaN for those trained on the person."""
    texts = [row.get(column) for column in columns]
    answers = [_number(text) for text in texts]
    wrong = [c for c, text, a in zip(columns, texts, answers, strict=True) if text and a is None]
    if wrong:
        faults.append(
            (
                f"has a {wrong[0]} that is not a number",
                "Give the answer in years, or n/a where that model was trained on the person",
            )
        )
    elif columns and not any(texts):
        faults.append(
            ("has no answer of a reference model", "Give one of a model that was not trained on the person")
        )
    return tuple(np.nan if answer is None else answer for answer in answers)


def _age(text: str, faults: list[tuple[str, str]]) -> float | None:
    """Return an age in years, or None after adding what is wrong with it; the age itself is never told."""
    age = _number(text)
    if age is not None and 0 <= age <= OLDEST:
        return age
    if not text:
        faults.append(("has no age", "Give it in years"))
    elif age is not None:
        faults.append(("has an age that cannot be one in years", f"Give it in years (0-{OLDEST:g})"))
    elif any(sign in text for sign in TOP_CODED):
        faults.append(
            (
                "has a top-coded age (such as 89+), so that the model's error on it is not known",
                "Leave it out",
            )
        )
    elif text.replace(",", ".", 1).replace(".", "", 1).isdigit():
        faults.append(("has an age with a decimal comma", "Write decimals with a point"))
    else:
        faults.append(("has an age that is text", "Give a number of years, without a unit"))
    return None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) and "_" not in text else None


def _without_repeats(place: str, lines: Sequence[_Line]) -> tuple[list[_Line], list[Problem]]:
    """Return the lines of scans that are there once, of people with one membership; and what is wrong."""
    scans: dict[ScanId, list[int]] = {}
    states: dict[str, set[int]] = {}
    for line in lines:
        scans.setdefault(line.scan, []).append(line.row.line)
        states.setdefault(line.scan.participant, set()).add(line.state)
    kept, problems = [], []
    for line in lines:
        where, who = f"{place} line {line.row.line}", line.scan.participant
        if len(scans[line.scan]) > 1:
            what = "has the same participant and session as another line"
            problems.append(Problem(where, what, "Tell them apart by a session column, or keep one", who))
        elif len(states[who]) > 1:
            what = "has a participant whose other lines have another membership"
            problems.append(Problem(where, what, "Membership is a person's: give all lines the same", who))
        else:
            kept.append(line)
    return kept, problems


def check_groups(place: str, states: Sequence[int], *, left_out: int, members_only: bool = False) -> None:
    """Raise ``CohortError`` if ``states`` of scans lack members or non-members; ``place`` gave them.

    With ``members_only`` nobody else is needed.
    """
    members, others = states.count(MEMBER), states.count(NON_MEMBER)
    if members and (others or members_only):
        return
    rest = f" ({left_out} faulty lines left out)" if left_out else ""
    found = f"{members} member scans and {others} non-member scans{rest}"
    if members:
        raise CohortError(
            f"{place} needs people whom the model was not trained on, got {found}. An attack is judged by "
            "how well it tells the two apart; of members alone any model looks the same, so no verdict is "
            "given. Add scans of people of the same scanners and ages who were never trained on (about 100 "
            "or more). Until then --members-only says which members are fitted unlike others of their age, "
            "and `privoxel scan MODEL` looks for training records inside the released file."
        )
    raise CohortError(
        f"{place} needs members, people whom the model was trained on, got {found}. Write 1 in the column "
        "'member' for each of them."
    )
