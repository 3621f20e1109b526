"""A block of params.yaml: strict, frozen, unknown keys refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Block(BaseModel):
    """One block of params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
