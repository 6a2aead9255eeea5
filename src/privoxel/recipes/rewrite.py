"""The report of a finished run, written again from ``results.json`` and ``scores.npz``."""

from pathlib import Path

from pydantic import ValidationError

from privoxel.errors import StoreError
from privoxel.evaluation.archive import Archive
from privoxel.evaluation.results import Results
from privoxel.report import write_report


def read_results(folder: Path) -> Results:
    """Return the results of the finished run in ``folder``.

    Raises:
        StoreError: if there are none, or they were written by another version of the schema.
    """
    path = folder / "results.json"
    try:
        return Results.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(
            f"{folder} needs the results.json of a finished run, got none. Finish the run."
        ) from error
    except ValidationError as error:
        raise StoreError(
            f"{path} needs the results of this version of privoxel, got {error.error_count()} unknown or "
            "missing fields. Use the version that wrote them."
        ) from error


def rewrite_report(folder: Path, output: Path | None = None) -> Path:
    """Write the report of the finished run in ``folder`` again and return its path.

    Raises:
        StoreError: if the run is not finished.
    """
    results = read_results(folder)
    scores = folder / "scores.npz"
    if not scores.exists():
        raise StoreError(f"{folder} needs the scores.npz of a finished run, got none. Finish the run.")
    path = output or folder / "report.html"
    write_report(results, Archive.load(scores), path)
    return path
