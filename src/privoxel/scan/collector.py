"""What the readers of all formats report to: strings, named values, imports, faults. It does the judging.

Equal findings of one member are counted, not listed, so that memory stays bounded whatever is found.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, final

from privoxel.scan.findings import Finding, Kind
from privoxel.scan.limits import Budget
from privoxel.scan.patterns import Hit, Pattern, hits, redacted
from privoxel.scan.roles import (
    FEWEST_VALUES,
    RECORD_HOLDERS,
    Role,
    is_optimiser,
    look_like_ages,
    role_of,
)

MOST_DISTINCT = 100_000
MOST_MESSAGES = 50


class Column(NamedTuple):
    """Values under a name: how many, and the first numbers of them (empty where they are none).

    ``is_container``: a mapping or a list, which may hold state although it is no column of numbers.
    """

    size: int
    numbers: tuple[float, ...] = ()
    is_container: bool = False


@dataclass
class _Tally:
    pattern: Pattern | None
    where: str
    example: str
    count: int = 0
    distinct: set[int] = field(default_factory=set)


@final
class Collector:
    """Findings, notes and faults of one artefact; ``member`` is the file that is being read."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.member = ""
        self._tallies: dict[tuple[str, Kind, str], _Tally] = {}
        self._roles: dict[str, set[Role]] = {}
        self._tables: dict[str, str] = {}
        self._notes: dict[str, None] = {}
        self._faults: dict[str, None] = {}

    def text(self, text: str, where: str | int, *, key: bool = True, after: int = 0) -> None:
        """Take note of a string at a place in words, or at a byte.

        ``key`` says that it stands for itself, as a name or a cell does. What ends within the first ``after``
        characters was reported before.
        """
        for hit in hits(text):
            if hit.start + len(hit.text) > after:
                place = where if isinstance(where, str) else f"byte {where + hit.start:,}"
                self._tally(hit.pattern.kind, hit.pattern.what, place, hit.pattern.redact(hit.text), hit)
        if key:
            role = role_of(text)
            if role is not None:
                self._roles.setdefault(self.member, set()).add(role)

    def entry(self, name: str, column: Column, where: str) -> None:
        """Take note of values under a name."""
        holder = RECORD_HOLDERS.get(name)
        if holder is not None and column.size >= FEWEST_VALUES:
            self.found(Kind.RECORDS, f"{holder} (under {name!r}, {column.size:,} values)", where)
        if is_optimiser(name) and (column.is_container or column.size > 1):
            self.found(Kind.OPTIMISER, "state of an optimiser", where, example=_shown(name))
        role = role_of(name)
        if role is None or column.size < FEWEST_VALUES:
            return
        if role is not Role.AGE:
            if role is Role.PARTICIPANT:
                self.found(Kind.TABLE, f"column {_shown(name)!r} of {column.size:,} values", where)
        else:
            self.ages(name, column.size, column.numbers, where)

    def ages(self, name: str, size: int, sample: Sequence[float], where: str) -> None:
        """Take note of ``size`` values under a name that says age, if the first of them can be ages."""
        if look_like_ages(sample):
            self.found(Kind.TABLE, f"column {_shown(name)!r} of {size:,} plausible ages", where)

    def table(self, what: str, where: str) -> None:
        """Take note that this member holds a table of some kind (a data frame); its columns decide."""
        self._tables.setdefault(self.member, f"{what}\0{where}")

    def columns(self, names: Sequence[str], rows: int | None, where: str) -> None:
        """Take note of a table by its column names; it counts with ages or participants and another role.

        ``rows`` is None where their number is not known.
        """
        roles = {role for role in map(role_of, names) if role is not None}
        many = rows is None or rows >= FEWEST_VALUES
        if many and len(roles) >= 2 and roles & {Role.AGE, Role.PARTICIPANT}:
            size = "" if rows is None else f" of {rows:,} lines"
            self.found(Kind.TABLE, f"table{size} with columns of {', '.join(sorted(roles))}", where)

    def found(self, kind: Kind, what: str, where: str, *, example: str = "") -> None:
        """Take note of a finding that needs no judging."""
        self._tally(kind, what, where, example, None)

    def note(self, text: str) -> None:
        """Take note of something a reader should know that is no finding."""
        self._remember(self._notes, text)

    def fault(self, text: str) -> None:
        """Take note of a part that could not be read."""
        self._remember(self._faults, text)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know."""
        return tuple(map(redacted, self._notes))

    @property
    def faults(self) -> tuple[str, ...]:
        """What could not be read."""
        return tuple(map(redacted, self._faults))

    def findings(self) -> tuple[Finding, ...]:
        """Return all findings, by member in the order they were met, then by kind."""
        self._judge_tables()
        return tuple(
            Finding(
                kind,
                redacted(what),
                redacted(member),
                redacted(tally.where),
                tally.example,
                tally.count,
                len(tally.distinct),
            )
            for (member, kind, what), tally in self._tallies.items()
            if tally.pattern is None or len(tally.distinct) >= tally.pattern.fewest
        )

    def _judge_tables(self) -> None:
        for member, described in self._tables.items():
            what, where = described.split("\0")
            roles = self._roles.get(member, set())
            shown = f" with columns of {', '.join(sorted(roles))}" if roles else ""
            self.member = member
            self.found(Kind.TABLE, f"{what}{shown}", where)
        self._tables = {}

    def _tally(self, kind: Kind, what: str, where: str, example: str, hit: Hit | None) -> None:
        pattern = None if hit is None else hit.pattern
        tally = self._tallies.setdefault((self.member, kind, what), _Tally(pattern, where, example))
        tally.count += 1
        if hit is not None and len(tally.distinct) < MOST_DISTINCT:
            tally.distinct.add(hash(hit.text))

    def _remember(self, messages: dict[str, None], text: str) -> None:
        place = f"{self.member}: " if self.member else ""
        if len(messages) < MOST_MESSAGES:
            messages[f"{place}{text}"] = None
        elif len(messages) == MOST_MESSAGES:
            messages["and more of the kind"] = None


def numbers_of(values: Iterable[object], most: int = 256) -> tuple[float, ...]:
    """Return the first numbers among ``values``; nothing if something else is among them."""
    found: list[float] = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return ()
        found.append(float(value))
        if len(found) == most:
            break
    return tuple(found)


def _shown(name: str) -> str:
    return name if len(name) <= 60 else name[:57] + "..."
