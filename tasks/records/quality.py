"""How good a variant is against the reference."""

from __future__ import annotations

from tasks.records.base import Estimate, Record
from tasks.records.terms import Status


class Evaluation(Record):
    """Result of `evaluate`: quality on the shared token ids against the reference on the same rows."""

    variant: str
    status: Status
    reason: str
    command: str
    reference: str
    figures: dict[str, Estimate] = {}  # by the names of the kind's metric catalogue, and some beside it
    counts: dict[str, int] = {}  # what they were estimated from: rows, and what else the kind counts
    looks: int = 1  # how often it was asked whether what was scored is enough
    level: float = 0.95  # confidence level of intervals at that look: 95% over all looks together
    final: bool = True  # nothing was left to score
    key: str = ""  # digest of all that the scores depend on
    subset: bool = False  # True when a slow runtime was scored on fewer rows
    seconds: float | None = None
    runtime: dict[str, str] = {}  # properties read back from the runtime that scored
