"""The page on which a user judges prepared scans: each before and after, with its scores.

The page links to the pictures beside it, which show participants; it is for the owner of the scans alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from privoxel.errors import Problem
from privoxel.report.page import environment
from privoxel.store import write_text
from privoxel.version import __version__


class PreparedRow(NamedTuple):
    """One prepared scan: its name and source, its scores, what is odd about it, and its two pictures."""

    stem: str
    place: str
    scores: Mapping[str, float]
    concerns: tuple[str, ...]
    before: str
    after: str
    seconds: float


class ScoreColumn(NamedTuple):
    """A score's key, its title, and what it says."""

    key: str
    title: str
    meaning: str


def write_preparation(
    rows: Sequence[PreparedRow],
    failures: Sequence[Problem],
    settings: Mapping[str, Any],
    columns: Sequence[ScoreColumn],
    path: Path,
) -> None:
    """Write the page to ``path``; the rows' pictures are relative to it."""
    write_text(path, render_preparation(rows, failures, settings, columns))


def render_preparation(
    rows: Sequence[PreparedRow],
    failures: Sequence[Problem],
    settings: Mapping[str, Any],
    columns: Sequence[ScoreColumn],
) -> str:
    """Return the page: what failed, what calls for a look, then all scans."""
    flagged = [row for row in rows if row.concerns]
    return (
        environment()
        .get_template("preparation.html.jinja")
        .render(
            rows=[*flagged, *(row for row in rows if not row.concerns)],
            flagged=flagged,
            failures=failures,
            settings=settings,
            columns=columns,
            number=score_text,
            version=__version__,
        )
    )


def score_text(value: float) -> str:
    """Return a score for the table.

    >>> score_text(1486.2), score_text(0.91234), score_text(0)
    ('1,486', '0.912', '0')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
