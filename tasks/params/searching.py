"""What a search is told: no stage of dvc.yaml reads it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from tasks.params.base import Block, Positive
from tasks.params.pipeline import Bound

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
Strategy = Literal["surrogate", "tpe", "random"]


def seconds(text: str) -> float:
    """A time as people write it, in seconds; raises ValueError.

    >>> seconds("30m"), seconds("1.5h"), seconds("90")
    (1800.0, 5400.0, 90.0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    if found is None:
        raise ValueError(f"{text!r} is no time; write 90s, 30m or 2h")
    return float(found[1]) * UNITS[found[2]]


class Search(Block):
    """How long to look, for what, and within which limits beside the gates."""

    within: Positive = 1800.0  # seconds; 30m and 2h are read too
    objective: str = "weights"  # weights (those of recommend) | front | an axis of the ranking | a metric
    limits: dict[str, Bound | None] = {}  # by metric, over `gate`; null switches one off
    at_once: Annotated[int, Field(ge=1, le=12)] = 4  # candidates that are timed in one session with the reference
    disk_mb: Positive = 6000.0  # of artifacts that are kept; those of dominated candidates go first
    strategy: Strategy = "surrogate"
    seed: int = 17
    only: tuple[str, ...] = ()  # patterns of candidates' names (gguf-*, *-int8*); none: all

    @field_validator("only", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("within", mode="before")
    @classmethod
    def _time(cls, value: Any) -> Any:
        return seconds(value) if isinstance(value, str) else value
