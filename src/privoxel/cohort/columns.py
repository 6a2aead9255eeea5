"""Columns of a table by name: what is missing, what may be meant, and many faults told as one."""

import difflib
from collections.abc import Mapping, Sequence

from privoxel.errors import Problem, ProblemsError

SHOWN = 5
SHOWN_COLUMNS = 12


def check_required(
    place: str, columns: Sequence[str], required: Sequence[str], aliases: Mapping[str, Sequence[str]]
) -> None:
    """Raise ``ProblemsError`` if a required column is missing, naming the column that may be meant."""
    spare = [column for column in columns if column not in required]
    problems = []
    for name in required:
        if name not in columns:
            near = nearest_column(name, spare, aliases.get(name, ()))
            shown = ", ".join(columns[:SHOWN_COLUMNS]) + (", …" if len(columns) > SHOWN_COLUMNS else "")
            remedy = (
                f"Rename {near!r} if that is it" if near else f"Add it; the columns are {shown or 'none'}"
            )
            problems.append(Problem(place, f"has no column {name!r}", remedy))
    if problems:
        raise ProblemsError(f"The table {place} cannot be used", problems)


def nearest_column(name: str, columns: Sequence[str], aliases: Sequence[str]) -> str | None:
    """Return the column that is most probably meant by ``name``, None if none comes near.

    >>> nearest_column("predicted_age", ["id", "Predicted Age"], ("pred",))
    'Predicted Age'
    """
    plain = {column.lower().replace(" ", "_").replace("-", "_"): column for column in columns}
    for alias in (name, *aliases):
        if alias in plain:
            return plain[alias]
    found = difflib.get_close_matches(name, list(plain)[:1000], n=1, cutoff=0.75)
    return plain[found[0]] if found else None


def one_of_many(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems with those of equal words in lines of one file joined, naming the first lines."""
    groups: dict[tuple[str, ...], list[Problem]] = {}
    for problem in problems:
        place, numbered, _ = problem.where.rpartition(" line ")
        key = (problem.what, problem.remedy, place if numbered else f"{len(groups)}\0{problem.where}")
        groups.setdefault(key, []).append(problem)
    joined = []
    for (what, remedy, place), found in groups.items():
        if len(found) == 1:
            joined += found
            continue
        numbers = [problem.where.rsplit(" ", 1)[-1] for problem in found]
        more = f" and {len(numbers) - SHOWN:,} more" if len(numbers) > SHOWN else ""
        joined.append(Problem(f"{place} lines {', '.join(numbers[:SHOWN])}{more}", f"each {what}", remedy))
    return joined
