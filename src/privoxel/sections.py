"""What the sections of a configuration have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Settings that belong together: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


MEMORY_PATTERN = r"^[0-9]+(\.[0-9]+)?(MiB|GiB)$"


def bytes_of(memory: str) -> int:
    """Return the bytes of a size.

    >>> bytes_of("1.5GiB")
    1610612736
    """
    return int(float(memory[:-3]) * 2 ** {"MiB": 20, "GiB": 30}[memory[-3:]])
