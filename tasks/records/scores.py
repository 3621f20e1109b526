"""Results side by side."""

from __future__ import annotations

from typing import Literal

from tasks.records.base import Record
from tasks.records.placement import Placement
from tasks.records.terms import Backend, Precision, Role, Status

Bound = Literal["memory-bound", "compute-bound", "overhead-bound", "inconsistent", "unknown"]


class RooflinePosition(Record):
    """A variant's distance to the machine's ceilings, and what holds it back."""

    variant: str
    decode_gb_s: float  # weights read per second
    decode_share: float  # of the memory bandwidth
    decode_bound: Bound
    prefill_gflop_s: float
    prefill_share: float | None  # of the matrix throughput in `arithmetic`
    prefill_bound: Bound
    arithmetic: str


class Metric(Record):
    """One cell of the scorecard: a value, or why there is none.

    `missing` is a fault (a gate on it fails); `not-measured` is known beforehand (a gate on it is inconclusive).
    """

    value: float | None = None
    se: float | None = None
    low: float | None = None  # ends of the 95% confidence interval, where the sample gives one
    high: float | None = None
    units: int | None = None  # what the interval is over: rows, or pairs of measurements
    n: int | None = None
    state: Literal["measured", "missing", "not-measured"] = "measured"
    reason: str = ""
    bound: float | None = None  # what this device allows at most, by a physical limit
    bound_reason: str = ""
    undecided: str = ""  # why the sample is too small to decide anything; a gate on it is inconclusive


class ScoreRow(Record):
    """Everything known of one variant, one row of the scorecard."""

    variant: str
    role: Role
    backend: Backend
    precision: Precision
    status: Status
    reason: str
    metrics: dict[str, Metric]


class Ranked(Record):
    variant: str
    rank: int
    utility: float  # 0..1 by the user's weights
    on_front: bool
    reason: str


class StepResult(Record):
    """A framework's figures after one step, as far as they are known; speedups and shares are to the reference's."""

    step: Literal["reference", "converted", "quantized", "accelerated"]
    variant: str
    figures: dict[str, float] = {}
    note: str = ""


class Progress(Record):
    """Progressive optimization of one framework (S7): what each step gained or lost."""

    backend: Backend
    variant: str  # the candidate it leads to
    strides: tuple[StepResult, ...]


class Recommendation(Record):
    """Scorecard, Pareto front and ranking (S17)."""

    kind: str = "causal-lm"  # of model: whose metrics these are
    reference: str
    rows: tuple[ScoreRow, ...]
    front: tuple[str, ...]
    ranking: tuple[Ranked, ...]
    reason: str
    closeness: tuple[RooflinePosition, ...] = ()  # of the variants measured on this device
    placements: dict[str, Placement] = {}  # per variant that a runtime of several devices could be asked about
    progress: tuple[Progress, ...] = ()  # per framework, as far as its steps were made
