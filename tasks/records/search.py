"""What a search found out about candidates, and its answer."""

from __future__ import annotations

from typing import Any, Literal

from tasks.records.base import Record

Rung = Literal["planned", "made", "glanced", "scored", "timed"]
RUNGS: tuple[Rung, ...] = ("planned", "made", "glanced", "scored", "timed")
Standing = Literal["open", "cut", "failed", "measured"]


class Figure(Record):
    """A metric of a candidate with the ends of its 95% interval, where the sample gives one."""

    value: float
    low: float | None = None
    high: float | None = None
    units: int | None = None  # what the interval is over: rows, or blocks of timing

    @property
    def ends(self) -> tuple[float, float]:
        """The interval; the value itself where there is none."""
        return (self.value if self.low is None else self.low, self.value if self.high is None else self.high)


class Step(Record):
    """A rung that a candidate was brought to, or why it was not."""

    rung: Rung
    ok: bool
    reason: str = ""
    figures: dict[str, Figure] = {}
    seconds: float = 0.0  # that it took, of one process


class Trial(Record):
    """Everything known of one candidate."""

    name: str
    variant: dict[str, Any]  # its line under `variants`
    standing: Standing = "open"
    reason: str = ""
    rung: Rung = "planned"
    steps: tuple[Step, ...] = ()
    number: int | None = None  # in the study; None: never begun
    dropped: bool = False  # its files were deleted to make room

    @property
    def figures(self) -> dict[str, Figure]:
        """All figures; those of later rungs in place of earlier ones."""
        return {name: figure for step in self.steps if step.ok for name, figure in step.figures.items()}

    def begun(self, number: int) -> Trial:
        """The same as a trial of the study."""
        return self.model_copy(update={"number": number})

    def after(self, step: Step) -> Trial:
        """The same with one more step; a failed one ends it."""
        steps = (*self.steps, step)
        if not step.ok:
            return self.model_copy(update={"steps": steps, "standing": "failed", "reason": step.reason})
        standing = "measured" if step.rung == RUNGS[-1] else "open"
        return self.model_copy(update={"steps": steps, "rung": step.rung, "standing": standing})

    def cut(self, reason: str) -> Trial:
        """The same, not followed further."""
        return self.model_copy(update={"standing": "cut", "reason": reason})


class Volume(Record):
    """How much of the objectives' space the front held after some time."""

    seconds: float
    volume: float


class Miss(Record):
    """A limit that a candidate does not keep, and what keeping it would take."""

    metric: str
    value: float
    limit: float
    by: float  # share of the limit
    open: bool = False  # the interval holds the limit


class Found(Record):
    """The answer of a search."""

    objective: str
    limits: dict[str, dict[str, float]]
    within_s: float
    spent_s: float
    ended: str  # why it ended
    trials: tuple[Trial, ...]
    excluded: dict[str, str] = {}  # candidates that were never in the space, and why
    best: str | None = None
    sure: bool = False  # the best one's intervals keep all limits
    front: tuple[str, ...] = ()
    knee: str | None = None
    nearest: str | None = None  # where nothing keeps all limits
    misses: tuple[Miss, ...] = ()  # of the nearest
    volumes: tuple[Volume, ...] = ()
    reason: str = ""

    def trial(self, name: str) -> Trial:
        """A candidate by its name."""
        return next(one for one in self.trials if one.name == name)
