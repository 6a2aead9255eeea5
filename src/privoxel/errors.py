"""Errors a user can act on: where, what was expected, what came, what to do.

Every expected failure is a ``PrivoxelError``; the command line prints its message without a
traceback. Inputs with many faults raise one ``ProblemsError`` that lists all of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class PrivoxelError(Exception):
    """Any failure that privoxel expects and explains."""


class ConfigError(PrivoxelError):
    """A configuration that cannot be used."""


class CohortError(PrivoxelError):
    """A cohort, or one of its files, that cannot be used."""


class ModelError(PrivoxelError):
    """A model that cannot be built or audited."""


class SignalError(PrivoxelError):
    """A signal that is missing, misaligned or not finite."""


class StoreError(PrivoxelError):
    """A run folder that does not fit what was asked of it."""


class FederationError(PrivoxelError):
    """A federation that cannot start, or a round that cannot be finished."""


class JobError(PrivoxelError):
    """A job whose worker kept dying, or a cluster that cannot be reached."""


def printable(text: str) -> str:
    r"""Return ``text`` with control characters escaped: names come from files, and a terminal obeys some.

    >>> print(printable("sub-\x1b[2J"))
    sub-\x1b[2J
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclass(frozen=True)
class Problem:
    """One fault of an input: where it is, what is wrong, what to do about it."""

    where: str
    what: str
    remedy: str
    participant: str | None = None

    def __str__(self) -> str:
        return printable(f"{self.where}: {self.what}. {self.remedy}")


class ProblemsError(CohortError):
    """All faults of one input at once; ``problems`` holds them one by one."""

    def __init__(self, title: str, problems: Iterable[Problem], footer: str = "") -> None:
        self.problems: Sequence[Problem] = tuple(problems)
        lines = [f"{title} ({len(self.problems)} found):", *(f"  - {p}" for p in self.problems)]
        if footer:
            lines.append(footer)
        super().__init__("\n".join(lines))


class ModelProblemsError(ModelError):
    """All faults of one model at once; ``problems`` holds them one by one."""

    def __init__(self, title: str, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = tuple(problems)
        super().__init__(
            "\n".join([f"{title} ({len(self.problems)} found):", *(f"  - {p}" for p in self.problems)])
        )
