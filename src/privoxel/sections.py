"""What the sections of a configuration have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Settings that belong together: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
