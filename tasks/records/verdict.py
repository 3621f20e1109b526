"""What the gates said."""

from __future__ import annotations

from tasks.records.base import Record
from tasks.records.terms import Outcome


class Expectation(Record):
    """One gate on one variant: what was observed, what was allowed, what follows."""

    gate: str
    metric: str
    against: str
    observed: float | None
    low: float | None = None  # ends of the interval that decided; None: one number, taken as it is
    high: float | None = None
    minimum: float | None
    maximum: float | None
    outcome: Outcome
    reason: str
    miss: float | None = None  # share by which the limit was missed; None when it was kept


class Verdict(Record):
    variant: str
    outcome: Outcome
    expectations: tuple[Expectation, ...]


class GateReport(Record):
    """Verdicts of all variants, the winner among those that passed, else the nearest."""

    outcome: Outcome
    reason: str
    winner: str | None
    verdicts: tuple[Verdict, ...]
    nearest: tuple[str, ...]  # candidates by how little they missed, when nothing passed
    results_digest: str  # sha256 over the scorecard the verdicts were made from
