"""What one rate of a load test brought."""

from __future__ import annotations

from tasks.records.base import Record


class LoadStep(Record):
    """Results of one rate of a load test; times in milliseconds, none where the sample cannot carry them."""

    rate: float  # requests per second that were meant to leave
    planned_s: float  # for so long they were to leave
    seconds: float  # from the first that left to the last that came back
    requests: int
    errors: dict[str, int]
    achieved: float  # requests per second that came back whole
    tokens_per_s: float
    first_ms_p50: float | None
    first_ms_p95: float | None
    between_ms_p50: float | None
    between_ms_p95: float | None
    whole_ms_p95: float | None
    late_ms_p95: float | None  # of the load itself: past some milliseconds this machine is too busy to measure

    @property
    def error_rate(self) -> float:
        """Share of requests that did not come back whole."""
        return sum(self.errors.values()) / self.requests if self.requests else 0.0
