"""What a comparison of two windows found, signal by signal, and the one verdict over all of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from tasks.records.base import Record
from tasks.records.older import with_new_names

Family = Literal["input", "prediction", "performance"]
Verdict = Literal["drift", "watch", "none", "inconclusive"]


class Signal(Record):
    """One thing that was compared."""

    name: str
    family: Family
    effect: float | None  # how far it moved; None where it cannot be told
    limit: float
    p_value: float | None  # of the test that it has not moved
    drifted: bool
    rows: int
    note: str = ""

    @model_validator(mode="before")
    @classmethod
    def _older(cls, raw: Any) -> Any:
        """Read what was written when `p_value` was called `doubt`."""
        return with_new_names(raw, {"doubt": "p_value"})
