"""Preparing a raw dataset: every scan a job, finished ones kept, and a page that shows all of them."""

import csv
import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

from privoxel.cohort.tables import label, read_table
from privoxel.errors import Problem, ProblemsError, StoreError
from privoxel.executor import Executor, Finished, Job
from privoxel.prepare.dataset import RawScans, check_output, find_scans
from privoxel.prepare.outputs import PAGE, STATE, write_descriptions
from privoxel.prepare.quality import BOUNDS, faults, outliers, shown
from privoxel.prepare.scan import RawScan, content_of, prepare_scan
from privoxel.prepare.settings import PrepareSettings, digest
from privoxel.progress import Progress, Silent
from privoxel.report.preparation import PreparedRow, ScoreColumn, write_preparation
from privoxel.store import differences, write_json, write_text

COLUMNS = tuple(
    ScoreColumn(key, bound.title, f"{bound.meaning}; expected {shown(bound.low)} to {shown(bound.high)}.")
    for key, bound in BOUNDS.items()
)


@final
@dataclass(frozen=True)
class PrepareOptions:
    """Which scans, and how many at once; nothing here changes a voxel.

    ``root``: a further folder that links of the dataset may lead to.
    """

    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    workers: int = 1
    progress: Progress | None = None
    root: Path | None = None


class Preparation(NamedTuple):
    """What was done: scans of this call prepared or kept, those that failed, and the rows of the page.

    ``rows`` and ``page`` are of everything in the folder, not only of this call.
    """

    prepared: tuple[str, ...]
    kept: tuple[str, ...]
    problems: tuple[Problem, ...]
    rows: tuple[PreparedRow, ...]
    page: Path

    @property
    def flagged(self) -> tuple[PreparedRow, ...]:
        """Rows that call for a look."""
        return tuple(row for row in self.rows if row.concerns)


class _Plan(NamedTuple):
    todo: tuple[RawScan, ...]
    kept: tuple[str, ...]
    problems: tuple[Problem, ...]


def plan_preparation(raw: Path, folder: Path, settings: PrepareSettings, options: PrepareOptions) -> _Plan:
    """Return which scans are to be prepared and which are finished; nothing is written.

    Raises:
        ConfigError: if the extra is not installed, or labels or folders are wrong.
        StoreError: if the output folder has other settings or other files.
    """
    described = settings.described()
    check_output(raw, folder)
    found = find_scans(raw, participants=options.participants, sessions=options.sessions, root=options.root)
    _check_settings(folder, described)
    return _divided(found, folder, _finished(folder, described))


def run_preparation(
    raw: Path, folder: Path, settings: PrepareSettings, options: PrepareOptions
) -> Preparation:
    """Prepare the scans of the dataset ``raw`` that are not finished, and write page and tables anew.

    One bad scan stops no other. What an interrupted call had finished is kept by the next.

    Raises:
        ConfigError: if the extra is not installed, or labels or folders are wrong.
        StoreError: if the output folder has other settings or other files.
    """
    described = settings.described()
    plan = plan_preparation(raw, folder, settings, options)
    _claim(folder, described)
    write_descriptions(folder, raw, described)
    finished, failed = _finished(folder, described), _failed(folder, described)
    workers = min(options.workers, max(1, len(plan.todo)))
    jobs = [Job(scan.stem, prepare_scan, (scan, folder, settings, finished)) for scan in plan.todo]
    executor = Executor("joblib", workers)
    records = executor.run(jobs, progress=options.progress or Silent(), title="scans")
    problems = [*plan.problems, *(_problem(record) for record in records if "problem" in record)]
    for problem in problems:
        failed.put(problem.where, {"place": problem.where, "what": problem.what, "remedy": problem.remedy})
    done = tuple(record["stem"] for record in records if "problem" not in record)
    return gather(raw, folder, settings)._replace(prepared=done, kept=plan.kept, problems=tuple(problems))


def gather(raw: Path, folder: Path, settings: PrepareSettings) -> Preparation:
    """Write the page and the participants' table of everything finished in ``folder``.

    Raises:
        StoreError: if nothing was prepared there, or with other settings.
    """
    described = settings.described()
    if not (folder / STATE / "settings.json").is_file():
        raise StoreError(f"A page needs scans prepared in {folder}, got none. Prepare participants first.")
    _check_settings(folder, described)
    name = digest(described)
    records = [r for r in _records(folder / STATE / "finished", name) if _files_there(folder, r)]
    records.sort(key=lambda record: record["stem"])
    far = outliers([record["scores"] for record in records])
    rows = [
        PreparedRow(
            record["stem"],
            record["place"],
            record["scores"],
            (*faults(record["scores"]), *phrases),
            before=_picture(record, "before"),
            after=_picture(record, "after"),
            seconds=record["seconds"]["all"],
        )
        for record, phrases in zip(records, far, strict=True)
    ]
    finished = {record["place"] for record in records}
    failures = [
        Problem(r["place"], r["what"], r["remedy"])
        for r in _records(folder / STATE / "failed", name)
        if r["place"] not in finished and (raw / r["place"]).exists()
    ]
    failures.sort(key=lambda problem: problem.where)
    page = folder / PAGE
    write_preparation(rows, failures, described, COLUMNS, page)
    _write_people(raw, folder, {record["participant"] for record in records})
    return Preparation((), tuple(r.stem for r in rows), tuple(failures), tuple(rows), page)


def _finished(folder: Path, described: Mapping[str, Any]) -> Finished:
    return Finished(folder / STATE / "finished", digest(dict(described)))


def _failed(folder: Path, described: Mapping[str, Any]) -> Finished:
    return Finished(folder / STATE / "failed", digest(dict(described)))


def _divided(found: RawScans, folder: Path, finished: Finished) -> _Plan:
    """Return what is left: a scan is finished if its bytes are the same and all of its files are there."""
    known = dict(finished.among([scan.stem for scan in found.scans]))
    todo, kept = [], []
    for scan in found.scans:
        record = known.get(scan.stem)
        same = record is not None and record["content"] == content_of(scan.path)
        if record is not None and same and _files_there(folder, record):
            kept.append(scan.stem)
        else:
            todo.append(scan)
    return _Plan(tuple(todo), tuple(kept), found.problems)


def _files_there(folder: Path, record: Mapping[str, Any]) -> bool:
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in record["files"].items()
    )


def _records(folder: Path, settings: str) -> list[dict[str, Any]]:
    contents = []
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if content.get("settings") == settings:
            contents.append(content["result"])
    return contents


def _problem(record: Mapping[str, Any]) -> Problem:
    fault = record["problem"]
    return Problem(record["place"], fault["what"], fault["remedy"], record["participant"])


def _picture(record: Mapping[str, Any], which: str) -> str:
    return next(name for name in record["files"] if name.endswith(f"_desc-{which}_T1w.png"))


def _check_settings(folder: Path, described: Mapping[str, Any]) -> None:
    path = folder / STATE / "settings.json"
    if not folder.exists():
        return
    if not folder.is_dir():
        raise StoreError(f"A derivative needs a folder, got the file {folder}. Choose another place.")
    if not path.is_file():
        if any(entry.name != STATE for entry in folder.iterdir()):
            raise StoreError(
                f"Preparing needs a new folder or one that it made, got {folder} with other files. "
                "Choose another."
            )
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{folder} needs its {STATE}/settings.json to go on, got none that can be read. "
            "Restore it, or choose another folder."
        ) from error
    changes = list(differences(stored, json.loads(json.dumps(dict(described)))))
    if changes:
        listed = "\n".join(f"  - {change}" for change in changes)
        raise StoreError(
            f"{folder} holds scans prepared in another way:\n{listed}\n"
            "A model must not be fed with both: restore these settings, or choose another folder."
        )


def _claim(folder: Path, described: Mapping[str, Any]) -> None:
    path = folder / STATE / "settings.json"
    if not path.is_file():
        write_json(path, dict(described))


def _write_people(raw: Path, folder: Path, prepared: set[str]) -> None:
    """Copy what is known of the prepared participants, so that the folder is a cohort."""
    table = raw / "participants.tsv"
    if not table.is_file():
        return
    try:
        people = read_table(table, ("participant_id",))
    except ProblemsError:
        return
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(people.columns)
    for row in people.rows:
        if label(row.get("participant_id"), "sub") in prepared:
            writer.writerow([row.cells[column] for column in people.columns])
    write_text(folder / "participants.tsv", text.getvalue())
    for name in ("participants.json", *(f"sub-{p}/sub-{p}_sessions.tsv" for p in sorted(prepared))):
        if (raw / name).is_file():
            shutil.copyfile(raw / name, folder / name)
