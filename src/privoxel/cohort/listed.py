"""Lists of participants as users keep them: a text file, a table, JSON, or a folder of images.

``sub-007`` and ``007`` are the same participant; a byte-order mark, CRLF, blank lines and quotes are fine. A
table may have a column ``member`` too and then says of everyone in it who is a member.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from privoxel.cohort.columns import check_required
from privoxel.cohort.images import image_of
from privoxel.cohort.nifti import SUFFIXES
from privoxel.cohort.predictions import ALIASES, MEMBER_WORDS
from privoxel.cohort.tables import COVARIATE_COLUMNS, MISSING, Row, label, read_table, scan_of
from privoxel.errors import CohortError, Problem, ProblemsError

LARGEST_LIST = 64 * 2**20
LONGEST_NAME = 200
ID_COLUMNS = ("participant_id", *ALIASES["participant_id"])
JSON_KEYS = (*ID_COLUMNS, "participants", "subjects", "ids", "members", "non_members", "training", "test")
SEPARATORS = re.compile(r"[\t,;\n]")


@final
@dataclass(frozen=True)
class Listed:
    """Participants that a file or folder names, in its order.

    ``place`` is how messages name the list and ``lines`` where in it each participant stands. ``states`` are
    those of a column ``member`` (MEMBER, NON_MEMBER, EXCLUDED), None where there is none.
    """

    place: str
    lines: Mapping[str, str]
    states: Mapping[str, int] | None = None
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.lines)


def listed_ids(participants: Iterable[str], place: str) -> Listed:
    """Return ids that a program gave as a list; numbers are taken as they print."""
    names = [label(str(name), "sub") for name in participants]
    problems = [
        Problem(f"{place} entry {n}", "is empty", "Name a participant")
        for n, name in enumerate(names, 1)
        if not name
    ]
    lines = {name: f"{place} entry {n}" for n, name in reversed([*enumerate(names, 1)]) if name}
    return Listed(place, dict(reversed(lines.items())), problems=tuple(problems))


def read_listed(path: Path) -> Listed:
    """Return the participants that a file or a folder names.

    Text has one id a line (or several between commas, semicolons or tabs); a table has the column
    ``participant_id``; JSON is a list of ids or of objects with one, or an object with such a list. A folder
    names the participants of the images in it.

    Raises:
        ProblemsError: if it is not there, cannot be read, or names nobody.
    """
    if path.is_dir():
        listed = Listed(path.name or str(path), _of_folder(path))
    else:
        text = _text(path)
        if path.suffix.lower() == ".json":
            listed = _of_json(text, path.name)
        elif _is_table(path, text):
            listed = listed_column(path)
        else:
            listed = _of_text(text, path.name)
    if not listed.lines and not listed.problems:
        problem = Problem(listed.place, "names nobody", "Name participants: one id a line, or sub-* images")
        raise ProblemsError("A list of participants cannot be used", [problem])
    return listed


def listed_column(path: Path, *, needs_member: bool = False) -> Listed:
    """Return the participants of a table, with their states where it has a column ``member``.

    Raises:
        ProblemsError: if the table cannot be read, names no participants, or lacks ``member`` where needed.
    """
    table = read_table(path, (), keep={"member", *COVARIATE_COLUMNS})
    by_path = needs_member and "path" in table.columns  # a table of volumes, whose paths can name people
    required = [*([] if by_path else ["participant_id"]), *(["member"] if needs_member else [])]
    check_required(path.name, table.columns, required, ALIASES)
    lines: dict[str, str] = {}
    states: dict[str, int] = {}
    problems = list(table.problems)
    for row in table.rows:
        place = f"{path.name} line {row.line}"
        name = _named_in(row, by_path=by_path)
        if not name:
            problems.append(Problem(place, "has no participant_id", "Name the participant"))
            continue
        lines.setdefault(name, place)
        if "member" in table.columns:
            problems += _add_state(row, name, place, states)
    return Listed(path.name, lines, states if "member" in table.columns else None, tuple(problems))


def _named_in(row: Row, *, by_path: bool) -> str:
    if by_path:
        return scan_of(row, row.get("path")).participant
    return label(row.get("participant_id"), "sub")


def _add_state(row: Row, name: str, place: str, states: dict[str, int]) -> list[Problem]:
    state = MEMBER_WORDS.get(row.get("member").lower())
    if state is None:
        remedy = "Write 1, 0, or n/a for who is to be left out"
        return [Problem(place, "has a member value that is neither yes nor no", remedy, name)]
    if states.setdefault(name, state) != state:
        what = "has a participant whose other lines have another membership"
        return [Problem(place, what, "Membership is a person's: give all lines the same", name)]
    return []


def _of_folder(folder: Path) -> dict[str, str]:
    people: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("sub-") and path.is_dir():
            people.setdefault(label(path.name, "sub"), f"{folder.name}/{path.name}")
        elif path.name.endswith(SUFFIXES):
            people.setdefault(image_of(path).scan.participant, f"{folder.name}/{path.name}")
    return people


def _text(path: Path) -> str:
    """Return a file's text with line feeds as line ends.

    Raises:
        ProblemsError: if it is not there, too large for a list, or no UTF-8.
    """
    try:
        if path.exists() and not path.is_file():
            raise CohortError("is no file")
        with path.open("rb") as stream:
            content = stream.read(LARGEST_LIST + 1)
        if len(content) > LARGEST_LIST:
            raise CohortError(f"is larger than {LARGEST_LIST // 2**20} MiB")
        text = content.decode("utf-8-sig")
        if "\0" in text:
            raise CohortError("holds zero bytes")
    except (OSError, UnicodeDecodeError, CohortError) as error:
        if isinstance(error, FileNotFoundError):
            problem = Problem(str(path), "is not there", "Correct the path")
        else:
            is_told = isinstance(error, CohortError)
            reason = str(error) if is_told else f"cannot be read ({type(error).__name__})"
            remedy = "Give UTF-8 text: one id a line, a table or JSON"
            problem = Problem(path.name or str(path), reason, remedy)
        raise ProblemsError("A list of participants cannot be used", [problem]) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_table(path: Path, text: str) -> bool:
    """Return whether the first line is a header: several cells in a table's file, or a column of ids."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    cells = [cell.strip().strip("\"'").lower() for cell in SEPARATORS.split(first)]
    if any(cell in ID_COLUMNS for cell in cells):
        return True
    return len(cells) > 1 and path.suffix.lower() in {".tsv", ".csv"}


def _of_text(text: str, place: str) -> Listed:
    lines: dict[str, str] = {}
    problems = []
    for n, line in enumerate(text.split("\n"), 1):
        for cell in SEPARATORS.split(line.split("#", 1)[0]):
            name = label(cell.strip().strip("\"'"), "sub")
            if len(name) > LONGEST_NAME:
                problems.append(Problem(f"{place} line {n}", "is too long for an id", "Write one id a line"))
            elif name.lower() not in MISSING:
                lines.setdefault(name, f"{place} line {n}")
    return Listed(place, lines, problems=tuple(problems))


def _of_json(text: str, place: str) -> Listed:
    try:
        found = _ids_in(json.loads(text))
    except (ValueError, RecursionError) as error:
        problem = Problem(place, f"is no JSON ({type(error).__name__})", 'Give a list of ids: ["sub-001"]')
        raise ProblemsError("A list of participants cannot be used", [problem]) from error
    if found is None:
        remedy = 'Give a list of ids, or {"participants": [...]}'
        problem = Problem(place, "holds no list of ids that can be recognised", remedy)
        raise ProblemsError("A list of participants cannot be used", [problem])
    return listed_ids(found, place)


def _ids_in(content: Any) -> Sequence[str] | None:
    """Return the ids of a list, of objects with an id, or of an object with one list; None if it has none."""
    if isinstance(content, dict):
        lists = {key: value for key, value in content.items() if isinstance(value, list)}
        known = [key for key in JSON_KEYS if key in lists]
        chosen = known[:1] if len(known) == 1 else list(lists) if len(lists) == 1 else []
        return _ids_in(lists[chosen[0]]) if chosen else None
    if not isinstance(content, list):
        return None
    return None if any(_id_of(item) is None for item in content) else [_id_of(item) or "" for item in content]


def _id_of(item: Any) -> str | None:
    if isinstance(item, dict):
        return next((_id_of(item[key]) for key in ID_COLUMNS if isinstance(item.get(key), str | int)), None)
    if isinstance(item, bool) or not isinstance(item, str | int):
        return None
    return str(item)
