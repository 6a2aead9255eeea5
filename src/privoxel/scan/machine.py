"""What a pickle would build, told without building it: a stack machine over descriptions of values.

Strings and numbers stand for themselves; an import is its name; a call is what was called with what;
arrays are where their bytes lie. Nothing is imported, called or allocated by what the pickle says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, final

from privoxel.scan.limits import UnreadableError

MOST_STACKED = 1_000_000
MOST_KEPT_AT_ALL = 1_000_000
MOST_KEPT = 256


class Import(NamedTuple):
    """A class or function by name, such as ``collections.OrderedDict``."""

    name: str


class Blob(NamedTuple):
    """Bytes of the file: where they begin and how many they are."""

    start: int
    length: int


class Persistent(NamedTuple):
    """A reference to something stored elsewhere, such as a tensor's storage."""

    key: object


@final
@dataclass(slots=True)
class Many:
    """A list, tuple, set or mapping: its size and its first items (for a mapping, its values)."""

    is_mapping: bool = False
    count: int = 0
    items: list[object] = field(default_factory=list)
    keys: list[object] = field(default_factory=list)

    def add(self, item: object, key: object = None) -> None:
        """Take note of one more item."""
        self.count += 1
        if len(self.items) < MOST_KEPT:
            self.items.append(item)
            self.keys.append(key)

    def get(self, key: str) -> object:
        """Return the value under ``key``, None where there is none among the first ones."""
        return next((item for item, k in zip(self.items, self.keys, strict=True) if k == key), None)


@final
@dataclass(slots=True)
class Called:
    """The result of a call or of making an object, and the state that it was then given."""

    function: object
    arguments: object
    state: object = None
    items: Many = field(default_factory=Many)

    @property
    def name(self) -> str:
        """What was called, "" where that is no import."""
        return self.function.name if isinstance(self.function, Import) else ""


class _Mark:
    """The place on the stack that a MARK left."""


MARK = _Mark()


@final
class Stack:
    """The stack and the memo of a pickle."""

    def __init__(self) -> None:
        self._values: list[object] = []
        self._memo: dict[int, object] = {}

    def push(self, value: object) -> None:
        """Put a value on the stack.

        Raises:
            UnreadableError: if it grows beyond what any model needs.
        """
        if len(self._values) >= MOST_STACKED:
            raise UnreadableError("it is an unusual pickle: its stack grows beyond a million values")
        self._values.append(value)

    def pop(self) -> object:
        """Take the top value; None from an empty stack, as in a damaged pickle."""
        return self._values.pop() if self._values else None

    @property
    def top(self) -> object:
        """The top value, None on an empty stack."""
        return self._values[-1] if self._values else None

    def pop_to_mark(self) -> list[object]:
        """Take all values above the last mark, and the mark."""
        for place in range(len(self._values) - 1, -1, -1):
            if self._values[place] is MARK:
                taken = self._values[place + 1 :]
                del self._values[place:]
                return taken
        taken, self._values = self._values, []
        return taken

    def remember(self, key: int | None = None) -> None:
        """Keep the top value under ``key``, by default the next number; beyond a million values forget it."""
        if len(self._memo) < MOST_KEPT_AT_ALL:
            self._memo[len(self._memo) if key is None else key] = self.top

    def recall(self, key: int) -> object:
        """Return what is kept under ``key``, None where nothing is."""
        return self._memo.get(key)


def many(items: list[object]) -> Many:
    """Return the list or tuple of ``items``."""
    made = Many()
    for item in items:
        made.add(item)
    return made


def _last(count: int) -> Callable[[Stack], None]:
    return lambda stack: stack.push(many([stack.pop() for _ in range(count)][::-1]))


def _above_mark(stack: Stack) -> None:
    stack.push(many(stack.pop_to_mark()))


ARRANGE: Mapping[str, Callable[[Stack], object]] = {
    "MARK": lambda stack: stack.push(MARK),
    "POP": lambda stack: stack.pop(),
    "POP_MARK": lambda stack: stack.pop_to_mark(),
    "DUP": lambda stack: stack.push(stack.top),
    "EMPTY_LIST": lambda stack: stack.push(Many()),
    "EMPTY_TUPLE": lambda stack: stack.push(Many()),
    "EMPTY_SET": lambda stack: stack.push(Many()),
    "EMPTY_DICT": lambda stack: stack.push(Many(is_mapping=True)),
    "TUPLE1": _last(1),
    "TUPLE2": _last(2),
    "TUPLE3": _last(3),
    "TUPLE": _above_mark,
    "LIST": _above_mark,
    "FROZENSET": _above_mark,
}
"""Opcodes that arrange the stack alone, by name."""
