"""Checking a real cohort before anything is trained on it."""

from dataclasses import asdict
from pathlib import Path

from privoxel.cohort.base import Grid
from privoxel.cohort.bids import load_cohort
from privoxel.cohort.checks import CohortCheck, check_cohort
from privoxel.progress import Progress


def check_path(path: Path, *, resolution_mm: float, root: Path | None, progress: Progress) -> CohortCheck:
    """Return everything wrong with the cohort at ``path``, after reading each usable scan once.

    Raises:
        CohortError: if there is no cohort at ``path``, or no scan of it can be used.
    """
    cohort = load_cohort(path, grid=Grid.mni(resolution_mm), skip_bad=True, root=root)
    with progress.task("scans", len(cohort)) as task:
        return check_cohort(cohort, progress=task.advance)


def check_lines(check: CohortCheck) -> list[str]:
    """Return the check as lines for a reader."""
    ages = check.ages
    lines = [
        f"{check.name}: {check.n_participants} participants, {check.n_scans} usable scans, "
        f"ages {ages.youngest:.0f}-{ages.oldest:.0f} (mean {ages.mean:.1f}, SD {ages.sd:.1f}) years",
        f"{len(check.problems)} problems" + (":" if check.problems else "."),
    ]
    lines += [f"  - {problem}" for problem in check.problems]
    return lines + [f"Note: {warning}" for warning in check.warnings]


def check_record(check: CohortCheck) -> dict[str, object]:
    """Return the check as plain values for JSON."""
    return asdict(check)
