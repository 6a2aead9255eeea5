"""Tables of participants: BIDS sidecars, and cohorts given as one CSV or TSV with paths and ages.

Every fault is collected with its line; nothing is guessed. Messages name participants and files but
never their ages.
"""

import csv
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TextIO

from privoxel.cohort.base import ScanId
from privoxel.cohort.columns import check_required
from privoxel.errors import CohortError, Problem, ProblemsError

MISSING = frozenset({"", "n/a", "na", "nan", "none", "null"})
OLDEST = 120.0
TOP_CODED = ("+", ">", "≥")
LARGEST_TABLE = 4 * 2**30
LONGEST_LINE = 16 * 2**20
COVARIATE_COLUMNS = frozenset({"participant_id", "session", "session_id", "path", "age", "sex", "site"})
PREFIX = re.compile(r"^(?P<letters>[a-z]+[0-9]?_?)(?=sub-)")
"""What CAT12 and SPM put before the name of the scan: wm, mwp1, p0, y_."""
ENTITY = re.compile(r"(?:^|_)([a-zA-Z]+)-([a-zA-Z0-9]+)(?=_)")
SEX_WORDS = {"f": "F", "female": "F", "m": "M", "male": "M"}
SEX_CODES = {"1": "M", "1.0": "M", "2": "F", "2.0": "F"}
NUMBER_REMEDY = "Write a number, or n/a where it is not known; or leave the scan out with --skip-bad"
AGE_REMEDY = f"Give the age in years (0-{OLDEST:g}), or leave the scan out with --skip-bad"


class Row(NamedTuple):
    """One line of a table: its number in the file and its cells by (lower-case) column name."""

    line: int
    cells: Mapping[str, str]

    def get(self, column: str) -> str:
        """Return the cell, "" where it is missing (empty, n/a, nan)."""
        cell = self.cells.get(column, "").strip()
        return "" if cell.lower() in MISSING else cell


class Table(NamedTuple):
    """A table as read: columns in lower case, rows, and the lines that could not be used."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]


class Entry(NamedTuple):
    """One scan of a cohort before its header is looked at; ``place`` is how messages name the file.

    ``further`` holds the numbers in the further columns that were asked for, in their order.
    """

    scan: ScanId
    path: Path
    place: str
    age: float
    sex: str
    site: str
    further: tuple[float, ...] = ()


@dataclass
class Found:
    """Scans found so far, and everything wrong so far."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def blame(self, where: str, what: str, remedy: str, participant: str | None = None) -> None:
        """Add a problem."""
        self.problems.append(Problem(where, what, remedy, participant))

    def blame_unit(self, ages: Iterable[str], place: str) -> None:
        """Add a problem if ages as written are in days or months."""
        problem = age_unit_problem(ages, place)
        if problem:
            self.problems.append(problem)


def read_table(path: Path, required: Sequence[str], *, keep: Collection[str] | None = None) -> Table:
    """Return the rows of a comma-, semicolon- or tab-separated file with a header line.

    A byte-order mark, CRLF and blank lines are fine; column names are taken in lower case.

    Args:
        path: the table, at most 4 GiB.
        required: columns that must be there.
        keep: the columns whose cells are held in memory; by default all. A table may have thousands.

    Raises:
        ProblemsError: if the file cannot be read, or a column is missing or there twice.
    """
    try:
        _check_size(path)
        with path.open(newline="", encoding="utf-8-sig") as stream:
            header = stream.readline(LONGEST_LINE)
            stream.seek(0)
            reader = csv.reader(_lines_of(stream), delimiter=_delimiter(path, header))
            return _table(path, reader, required, keep)
    except (OSError, UnicodeDecodeError, csv.Error, CohortError) as error:
        if isinstance(error, ProblemsError):
            raise
        what = str(error) if isinstance(error, CohortError) else f"cannot be read ({type(error).__name__})"
        problem = Problem(path.name, what, "Save it as UTF-8 text, one line a row")
        raise ProblemsError("A table cannot be used", [problem]) from error


def _check_size(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise CohortError("is no file")
    if path.stat().st_size > LARGEST_TABLE:
        raise CohortError(f"is larger than {LARGEST_TABLE // 2**30} GiB")


def _lines_of(stream: TextIO) -> Iterator[str]:
    """Yield lines, none of which is long enough to fill the memory."""
    while line := stream.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise CohortError(f"has a line of {LONGEST_LINE // 2**20} MiB or more")
        yield line


def _table(path: Path, reader: Any, required: Sequence[str], keep: Collection[str] | None) -> Table:
    columns: tuple[str, ...] = ()
    rows, ragged = [], []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if not columns:
            columns = tuple(name.strip().lower() for name in cells)
            _check_columns(path.name, columns, required)
            held = [k for k, name in enumerate(columns) if keep is None or name in keep]
        elif len(cells) == len(columns):
            rows.append(Row(reader.line_num, {columns[k]: cells[k] for k in held}))
        else:
            what = f"has {len(cells)} cells, not {len(columns)}"
            ragged.append(Problem(f"{path.name} line {reader.line_num}", what, "Correct the line"))
    if not columns:
        _check_columns(path.name, columns, required)
    return Table(columns, tuple(rows), tuple(ragged))


def _delimiter(path: Path, header: str) -> str:
    if path.suffix.lower() == ".tsv" or "\t" in header:
        return "\t"
    return ";" if ";" in header and "," not in header else ","


def _check_columns(place: str, columns: tuple[str, ...], required: Sequence[str]) -> None:
    problems = [
        Problem(place, f"has no column {name!r}", f"Add it; the columns are {', '.join(columns) or 'none'}")
        for name in required
        if name not in columns
    ]
    problems += [
        Problem(place, f"has the column {name!r} {n} times", "Keep one")
        for name, n in Counter(columns).items()
        if n > 1
    ]
    if problems:
        raise ProblemsError("A table cannot be used", problems)


def parse_age(text: str) -> float:
    """Return an age in years.

    Raises:
        CohortError: saying what is wrong with it, never the age itself.
    """
    if not text:
        raise CohortError("has no age")
    try:
        age = float(text)
    except ValueError:
        raise CohortError(_age_fault(text)) from None
    if "_" in text or not 0 <= age <= OLDEST:
        raise CohortError("has an age that cannot be one in years")
    return age


def further_numbers(cells: Mapping[str, str]) -> tuple[float, ...]:
    """Return the numbers that cells by column hold, NaN where a cell is empty.

    Raises:
        CohortError: naming every column with something else in it, never what it is.
    """
    found = {column: _number(text) for column, text in cells.items()}
    wrong = [repr(column) for column, number in found.items() if number is None]
    if wrong:
        raise CohortError(f"has a value in {', '.join(wrong)} that is not a number")
    return tuple(number for number in found.values() if number is not None)


def _number(text: str) -> float | None:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return None if math.isinf(value) or "_" in text else value


def _age_fault(text: str) -> str:
    if any(sign in text for sign in TOP_CODED):
        return "has a top-coded age (such as 89+), so that the model's error on it is not known"
    if text.replace(",", ".", 1).replace(".", "", 1).isdigit():
        return "has an age with a decimal comma"
    return "has an age that is text, not a number"


def age_unit_problem(ages: Iterable[str], place: str, column: str = "age") -> Problem | None:
    """Return what is wrong if ages as written are mostly too high for years, as days and months are."""
    values = []
    for text in ages:
        try:
            values.append(float(text))
        except ValueError:
            continue
    middle = median(values) if values else 0.0
    if not middle > OLDEST:
        return None
    unit, factor = ("days", "365.25") if middle > 12 * OLDEST else ("months", "12")
    what = f"has a column {column!r} whose values are mostly above {OLDEST:g}, as ages in {unit} are"
    return Problem(place, what, f"Divide it by {factor}; ages are in years")


def sex_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return "F", "M" or "" (unknown) for each row.

    Words are read in any case (f, female, m, male). The numbers 1 (male) and 2 (female) are read only where
    the column holds no other number: codes with a 0 mean different things in different studies.
    """
    texts = [row.get("sex").lower() for row in rows]
    numbers = {text for text in texts if text.replace(".", "", 1).isdigit()}
    known = SEX_WORDS | (SEX_CODES if numbers <= set(SEX_CODES) else {})
    return tuple(known.get(text, "") for text in texts)


def matching(table: Table, where: Mapping[str, Sequence[str]], place: str) -> tuple[bool, ...]:
    """Return for each row whether its cells are among the values that ``where`` allows for each column.

    Raises:
        CohortError: if a column is not there, or no row is left.
    """
    wanted = {column.lower(): {str(value) for value in values} for column, values in where.items()}
    absent = sorted(set(wanted) - set(table.columns))
    if absent:
        raise CohortError(
            f"Selection needs columns of {place}, got {', '.join(absent)}. "
            f"Choose among {', '.join(table.columns)}."
        )
    keep = tuple(all(row.get(column) in values for column, values in wanted.items()) for row in table.rows)
    if wanted and not any(keep):
        chosen = "; ".join(f"{column} = {' or '.join(sorted(values))}" for column, values in wanted.items())
        present = "; ".join(f"{c}: {_some({row.get(c) for row in table.rows})}" for c in wanted)
        raise CohortError(f"Selection needs rows of {place} with {chosen}, got none. Present are {present}.")
    return keep


def _some(values: Iterable[str]) -> str:
    shown = sorted(values)
    return ", ".join(v or "n/a" for v in shown[:8]) + (", …" if len(shown) > 8 else "")


def label(text: str, entity: str) -> str:
    """Return a BIDS label without its prefix: "sub-007" and "007" are the same participant."""
    return text.strip().removeprefix(f"{entity}-")


def entities_of(name: str) -> dict[str, str]:
    """Return the BIDS entities of a file name: {"sub": "01", "space": "MNI152NLin2009cAsym"}.

    CAT12 writes its steps before the name; w stands for warped, to MNI152:

    >>> entities_of("wmsub-01_ses-2_T1w.nii")
    {'sub': '01', 'ses': '2', 'space': 'MNI152'}
    """
    steps = prefix_of(name)
    found = dict(ENTITY.findall(name.removeprefix(steps)))
    return {**found, "space": "MNI152"} if steps.startswith(("w", "mw")) and "space" not in found else found


def prefix_of(name: str) -> str:
    """Return what stands before the entities of a file name, "" in BIDS.

    >>> prefix_of("mwp1sub-01_T1w.nii"), prefix_of("sub-01_T1w.nii")
    ('mwp1', '')
    """
    match = PREFIX.match(name)
    return match["letters"] if match else ""


def table_entries(
    path: Path, *, where: Mapping[str, Sequence[str]], root: Path | None, columns: Sequence[str] = ()
) -> Found:
    """Return the scans of a table with the columns ``path`` and ``age`` (participant_id, session, sex, site).

    Paths are relative to the table's folder and must stay in it, or in ``root``. ``columns`` are further ones
    of numbers.
    """
    table = read_table(path, ("path", "age"), keep=kept_columns(where, columns))
    check_required(path.name, table.columns, [column.lower() for column in columns], {})
    found = Found(problems=list(table.problems))
    found.blame_unit([row.get("age") for row in table.rows], path.name)
    allowed = [path.parent.resolve(), *([root.resolve()] if root else [])]
    kept = matching(table, where, path.name)
    for row, sex, keep in zip(table.rows, sex_of(table.rows), kept, strict=True):
        if keep:
            _add_row(found, row, f"{path.name} line {row.line}", sex=sex, allowed=allowed, columns=columns)
    return _without_repeats(found, path.name)


def kept_columns(where: Mapping[str, Sequence[str]], columns: Sequence[str]) -> frozenset[str]:
    """Return the columns of a table of people whose cells are needed."""
    return COVARIATE_COLUMNS | {name.lower() for name in (*where, *columns)}


def _add_row(
    found: Found, row: Row, place: str, *, sex: str, allowed: Sequence[Path], columns: Sequence[str]
) -> None:
    written = row.get("path")
    if not written:
        found.blame(place, "has no path", "Give the file, or remove the line")
        return
    scan = scan_of(row, written)
    try:
        file = (allowed[0] / written).resolve()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: links that lead in a circle
        found.blame(place, "has a path that cannot be one", "Correct it", scan.participant)
        return
    if not any(file.is_relative_to(folder) for folder in allowed):
        found.blame(
            written,
            "lies outside the table's folder",
            "Name the folder it may lie in with --root DIR",
            scan.participant,
        )
        return
    try:
        age = parse_age(row.get("age"))
    except CohortError as error:
        found.blame(written, f"{error} ({place})", AGE_REMEDY, scan.participant)
        return
    try:
        further = further_numbers({column: row.get(column.lower()) for column in columns})
    except CohortError as error:
        found.blame(written, f"{error} ({place})", NUMBER_REMEDY, scan.participant)
        return
    found.entries.append(Entry(scan, file, written, age, sex, row.get("site"), further))


def scan_of(row: Row, written: str) -> ScanId:
    """Return whose scan a line is of, by its columns, else by the entities of the path ``written`` in it."""
    entities = entities_of(Path(written).name)
    participant = row.get("participant_id") or entities.get("sub", "") or written
    session = row.get("session") or row.get("session_id") or entities.get("ses", "")
    return ScanId(label(participant, "sub"), label(session, "ses"), entities.get("rec", ""))


def _without_repeats(found: Found, place: str) -> Found:
    """Leave out every scan that is named twice, and every file that stands for two scans."""
    scans = Counter(entry.scan for entry in found.entries)
    files = Counter(entry.path for entry in found.entries)
    result = Found(problems=found.problems)
    for entry in found.entries:
        if files[entry.path] > 1:
            result.blame(
                entry.place,
                f"is there {files[entry.path]} times in {place}",
                "Keep one line",
                entry.scan.participant,
            )
        elif scans[entry.scan] > 1:
            result.blame(
                entry.place,
                f"has the same participant and session as another line of {place} ({entry.scan})",
                "Tell them apart with a session column, or keep one",
                entry.scan.participant,
            )
        else:
            result.entries.append(entry)
    return result
