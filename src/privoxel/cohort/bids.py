"""Real cohorts: a BIDS (derivative) folder or a table of files, checked and read when needed.

Headers are looked at first; everything wrong with table, names and headers is reported at once. Voxels
are read when a volume is asked for, by ``cache_volumes`` or by ``check_cohort``.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from privoxel.cohort.base import Cohort, Covariates, Grid, ScanId
from privoxel.cohort.columns import check_required
from privoxel.cohort.images import (
    Image,
    find_images,
    image_of,
    is_plain,
    one_each,
    plain_files,
)
from privoxel.cohort.nifti import SPACES, NiftiSource, header_fault
from privoxel.cohort.preprocess import Normalise, history_of
from privoxel.cohort.tables import (
    AGE_REMEDY,
    NUMBER_REMEDY,
    Entry,
    Found,
    Row,
    entities_of,
    further_numbers,
    kept_columns,
    label,
    matching,
    parse_age,
    read_table,
    sex_of,
    table_entries,
)
from privoxel.errors import CohortError, Problem, ProblemsError

NO_FILTER: Mapping[str, Sequence[str]] = {}
ANNEX = "/.git/annex/objects/"
SKIP_HINT = "Continue with the rest by --skip-bad (skip_bad=True)."


class Person(NamedTuple):
    """A row of participants.tsv."""

    row: Row
    sex: str
    wanted: bool


def load_cohort(  # noqa: PLR0913 - the face of the package: each option by its own name
    path: str | Path,
    *,
    grid: Grid,
    normalise: Normalise = "all",
    where: Mapping[str, Sequence[str]] = NO_FILTER,
    columns: Sequence[str] = (),
    skip_bad: bool = False,
    root: Path | None = None,
    name: str | None = None,
) -> Cohort:
    """Return the cohort of preprocessed T1w images at ``path``; their voxels are read later, when asked for.

    Args:
        path: a BIDS folder with participants.tsv, a CSV/TSV table with the columns path and age, or a folder
            of NIfTI files with participants.tsv in it or beside it.
        grid: the voxel grid of the model.
        normalise: z-score over "all" voxels (the paper's way) or over the "brain" (skull-stripped images);
            "none" keeps intensities, for models that scale them.
        where: values that columns of the participants' table may have, e.g. {"site": ["A", "B"]}.
        columns: further columns of numbers in that table to keep (``cohort.covariates.columns``), such as
            other targets of a network; an empty cell or n/a is not known (NaN).
        skip_bad: leave scans with a problem out (``cohort.problems`` lists them) instead of refusing all.
        root: a further folder in which a table's paths, or the targets of a folder's links, may lie.
        name: name of the cohort; by default that of the folder or table.

    Raises:
        ProblemsError: naming every scan that cannot be used, or that no scan is left.
        CohortError: if ``where`` fits no row, or ``path`` is not there.
    """
    place = Path(path)
    if place.is_dir():
        entries_of = folder_entries if is_plain(place) else bids_entries
        found = entries_of(place, where=where, columns=columns)
        found = _inside(found, place, root)
    elif place.is_file():
        found = table_entries(place, where=where, root=root, columns=columns)
    else:
        raise CohortError(
            f"Cohort needs a folder or a table, got {place}, which is not there. Correct the path."
        )
    good = _usable(found, grid)
    title = f"Cohort {place.name or place} has scans that cannot be used"
    if not good and (skip_bad or place.is_dir() or not found.problems):
        raise ProblemsError(title, [*found.problems, _nothing(place)])
    if found.problems and not skip_bad:
        raise ProblemsError(title, found.problems, SKIP_HINT)
    cohort = _assemble(good, found.problems, grid=grid, normalise=normalise, name=name or _name_of(place))
    return cohort.with_columns(
        {column: [entry.further[k] for entry in good] for k, column in enumerate(dict.fromkeys(columns))}
    )


def _name_of(place: Path) -> str:
    whole = place.resolve()
    return whole.name if whole.is_dir() else whole.stem


def _nothing(place: Path) -> Problem:
    below = sorted(folder.name for folder in place.glob("derivatives/*") if any(folder.glob("sub-*")))
    remedy = f"Give one of its derivatives: {', '.join(below)}" if below else "Give preprocessed images"
    return Problem(
        place.name or str(place), "has no usable T1w image (sub-*/[ses-*/]anat/*_T1w.nii.gz)", remedy
    )


def _inside(found: Found, folder: Path, root: Path | None) -> Found:
    """Return the entries whose files lie in the dataset or in ``root``; a link may lead out of it.

    The dataset of a derivative is the one above it. The store of git-annex counts as part of it.
    """
    table = participants_table(folder)
    allowed = [place.resolve() for place in (folder, table.parent, *([root] if root else []))]
    kept = Found(problems=found.problems)
    for entry in found.entries:
        try:
            file = entry.path.resolve()
        except (OSError, RuntimeError):
            kept.blame(entry.place, "is a link that leads in a circle", "Remove it", entry.scan.participant)
            continue
        if ANNEX in file.as_posix() or any(file.is_relative_to(place) for place in allowed):
            kept.entries.append(entry)
            continue
        what = "is a link that leads out of the dataset"
        kept.blame(
            entry.place, what, "Name the folder it may lead to with --root DIR", entry.scan.participant
        )
    return kept


def _usable(found: Found, grid: Grid) -> list[Entry]:
    """Return the entries whose header is sound; the others become problems."""
    good = []
    for entry in found.entries:
        fault = header_fault(entry.path, grid)
        if fault is None:
            good.append(entry)
        else:
            found.blame(entry.place, fault.what, fault.remedy, entry.scan.participant)
    return good


def _assemble(
    entries: Sequence[Entry], problems: Sequence[Problem], *, grid: Grid, normalise: Normalise, name: str
) -> Cohort:
    covariates = Covariates(
        scans=tuple(entry.scan for entry in entries),
        age=np.array([entry.age for entry in entries], dtype=np.float64),
        sex=np.array([entry.sex for entry in entries], dtype=np.str_),
        site=np.array([entry.site for entry in entries], dtype=np.str_),
    )
    paths = tuple(str(entry.path) for entry in entries)
    history = (_spaces(entries), *history_of(grid, normalise))
    return Cohort(
        name=name,
        covariates=covariates,
        grid=grid,
        source=NiftiSource(paths, tuple(entry.place for entry in entries), grid, normalise),
        fingerprint=_fingerprint(paths, (*history, repr(grid))),
        history=history,
        problems=tuple(problems),
    )


def _spaces(entries: Sequence[Entry]) -> str:
    spaces = sorted({entities_of(entry.path.name).get("space", "unstated") for entry in entries})
    return SPACES + ", ".join(spaces)


def _fingerprint(paths: Sequence[str], options: Sequence[str]) -> str:
    digest = hashlib.sha256("\0".join(options).encode())
    for path in paths:
        stat = Path(path).stat()
        digest.update(f"\0{path}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    return f"nifti-{digest.hexdigest()}"


def bids_entries(folder: Path, *, where: Mapping[str, Sequence[str]], columns: Sequence[str] = ()) -> Found:
    """Return one image per participant, session and reconstruction of a BIDS folder, with ages."""
    found = Found()
    table = participants_table(folder)
    people = read_people(table, where, found, columns)
    images = one_each(find_images(folder, found), folder, found)
    sessions = Sessions(table.parent, found, columns)
    for image in images:
        add_image(found, image, folder, people=people, sessions=sessions)
    seen = {image.scan.participant for image in images} | {p.participant for p in found.problems}
    for (participant, _), person in people.items():
        if person.wanted and participant not in seen:
            found.blame(
                f"participants.tsv line {person.row.line}",
                f"names sub-{participant}, of whom there is no T1w image",
                "Add the image, or remove the line",
                participant,
            )
    others = {participant for (participant, _), person in people.items() if not person.wanted}
    found.problems = [p for p in found.problems if p.participant not in others]
    return found


def participants_table(folder: Path) -> Path:
    """Return a folder's participants.tsv: in it, in the dataset it is a derivative of, or beside plain files.

    Raises:
        ProblemsError: if it is not there.
    """
    above = folder.resolve().parent
    places = [folder]
    if above.name == "derivatives":
        places.append(above.parent)
    elif is_plain(folder):
        places.append(above)
    for place in places:
        if (place / "participants.tsv").is_file():
            return place / "participants.tsv"
    problem = Problem("participants.tsv", "is not there", "Add it with the columns participant_id and age")
    raise ProblemsError(f"Cohort {folder.name or folder} cannot be used", [problem])


def read_people(
    path: Path, where: Mapping[str, Sequence[str]], found: Found, columns: Sequence[str] = ()
) -> dict[tuple[str, str], Person]:
    """Return the rows of participants.tsv by (participant, session), session "" where there is no column."""
    table = read_table(path, ("participant_id",), keep=kept_columns(where, columns))
    check_required(path.name, table.columns, [column.lower() for column in columns], {})
    found.problems.extend(table.problems)
    found.blame_unit([row.get("age") for row in table.rows], path.name)
    people: dict[tuple[str, str], Person] = {}
    repeated: dict[tuple[str, str], int] = {}
    for row, sex, wanted in zip(
        table.rows, sex_of(table.rows), matching(table, where, path.name), strict=True
    ):
        key = (
            label(row.get("participant_id"), "sub"),
            label(row.get("session_id") or row.get("session"), "ses"),
        )
        if not key[0]:
            found.blame(f"{path.name} line {row.line}", "has no participant_id", "Add it, or remove the line")
        elif key in people:
            repeated[key] = row.line
        else:
            people[key] = Person(row, sex, wanted)
    for key, line in repeated.items():
        found.blame(f"{path.name} line {line}", f"names sub-{key[0]} a second time", "Keep one line", key[0])
        del people[key]
    return people


def folder_entries(folder: Path, *, where: Mapping[str, Sequence[str]], columns: Sequence[str] = ()) -> Found:
    """Return the images that lie in a folder themselves, with ages from participants.tsv in or beside it.

    The table may list people of other folders too.
    """
    found = Found()
    table = participants_table(folder)
    people = read_people(table, where, found, columns)
    sessions = Sessions(table.parent, found, columns)
    for image in one_each(map(image_of, plain_files(folder)), folder, found):
        add_image(found, image, folder, people=people, sessions=sessions)
    return found


class Sessions:
    """Ages and further ``columns`` from sub-*/sub-*_sessions.tsv, each file read at most once."""

    def __init__(self, folder: Path, found: Found, columns: Sequence[str] = ()) -> None:
        self.columns = tuple(columns)
        self._folder = folder
        self._found = found
        self._known: dict[str, dict[str, Row]] = {}

    def cell(self, scan: ScanId, column: str) -> str:
        """Return what is written of a scan's session, "" where nothing is."""
        if not scan.session:
            return ""
        if scan.participant not in self._known:
            self._known[scan.participant] = self._read(scan.participant)
        row = self._known[scan.participant].get(scan.session)
        return "" if row is None else row.get(column.lower())

    def _read(self, participant: str) -> dict[str, Row]:
        path = self._folder / f"sub-{participant}" / f"sub-{participant}_sessions.tsv"
        if not path.is_file():
            return {}
        try:
            table = read_table(path, ("session_id",), keep=kept_columns({}, self.columns))
        except ProblemsError as error:
            self._found.problems.extend(error.problems)
            return {}
        self._found.problems.extend(table.problems)
        return {label(row.get("session_id"), "ses"): row for row in table.rows}


def add_image(
    found: Found,
    image: Image,
    folder: Path,
    *,
    people: Mapping[tuple[str, str], Person],
    sessions: Sessions,
) -> None:
    """Add an image's entry, or what is missing for it, to ``found``."""
    scan = image.scan
    place = image.path.relative_to(folder).as_posix()
    person = people.get((scan.participant, scan.session)) or people.get((scan.participant, ""))
    if person is None:
        if not any(p.participant == scan.participant for p in found.problems):
            found.blame(
                place, "is of a participant who is not in participants.tsv", "Add a line", scan.participant
            )
        return
    if not person.wanted:
        return
    try:
        age = parse_age(sessions.cell(scan, "age") or person.row.get("age"))
    except CohortError as error:
        found.blame(place, str(error), AGE_REMEDY, scan.participant)
        return
    cells = {name: sessions.cell(scan, name) or person.row.get(name.lower()) for name in sessions.columns}
    try:
        further = further_numbers(cells)
    except CohortError as error:
        found.blame(place, str(error), NUMBER_REMEDY, scan.participant)
        return
    site = person.row.get("site")
    found.entries.append(Entry(scan, image.path.absolute(), place, age, person.sex, site, further))
