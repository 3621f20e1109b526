"""Several targets of one run: what each takes, how candidates rank for it, and what its gates said."""

from __future__ import annotations

from tasks.records.base import Record, Support
from tasks.records.plan import Selection
from tasks.records.scores import Recommendation
from tasks.records.verdict import GateReport


class Fit(Record):
    """What one target takes of the variants, and which of this machine's timings are its own."""

    target: str
    device: str
    kind: str | None  # of target; None: it takes every variant that its device runs
    selection: Selection
    takes: dict[str, Support]  # by variant
    speed: dict[str, Support]  # by variant; ok: timings made here are timings of the target


class Fits(Record):
    """The fit of each target that params.yaml names, the first one first."""

    targets: tuple[Fit, ...] = ()


class TargetRanking(Record):
    target: str
    recommendation: Recommendation


class Rankings(Record):
    """How candidates rank for the targets beyond the first, which has the recommendation itself."""

    targets: tuple[TargetRanking, ...] = ()


class TargetVerdict(Record):
    """What the gates of one target said."""

    target: str
    device: str
    report: GateReport


class TargetVerdicts(Record):
    """Verdicts for each of several targets, the first one first."""

    targets: tuple[TargetVerdict, ...] = ()
