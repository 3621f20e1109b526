"""The form of the metric catalogue: all that is known of a metric stands in one row.

Measuring gives it a value; gates, scorecard, ranking, report, cards and tuning read the rest here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from tasks.errors import DataError

Group = Literal["quality", "speed", "memory", "energy", "stability", "placement", "security"]
Better = Literal["higher", "lower"]
# How a value is written: 99.6%, +1.2%, 4.9x, 40%, 1.011, 0.0070, 462, 3, or three digits.
Form = Literal["percent", "change", "times", "share", "ratio", "small", "whole", "count", "plain"]
Limits = Literal["positive", "share", "count"]  # what a gate may ask: above 0, 0 to 1, whole numbers from 0 on
Interval = Literal["rows", "items", "blocks", "requests", "none"]  # what its interval is over
Source = Literal["artifact", "quality", "phase", "value", "optional", "derived", "unscored"]
Against = Literal["speedup", "share", ""]
NEVER = float("inf")
LAST = 99.0  # order of an appearance that says nothing of it


@dataclass(frozen=True)
class Gate:
    """A gate on a metric: its name and allowed limits; `default` None: no gate unless params.yaml names one."""

    short: str  # short enough for a table
    default: float | None = None
    limits: Limits = "positive"
    strict: bool = False  # the limit itself is not enough


@dataclass(frozen=True)
class Place:
    """An appearance: where among its like, and under which words."""

    order: float = LAST
    words: str = ""


@dataclass(frozen=True)
class Column:
    """A column of the scorecard. `extras` name the small figures beside the value: ± se, × or % ref, spread."""

    head: str
    meaning: str
    order: float = LAST
    extras: tuple[str, ...] = ()
    drop: float = 0  # the lower, the sooner it goes where the terminal has no room
    drop_extras: float = 0


@dataclass(frozen=True)
class CardLine:
    """A line of the model card."""

    words: str
    digits: str  # as str.format writes it
    order: float = LAST


@dataclass(frozen=True)
class Axis:
    """An axis of the ranking. `stands_in`: used only where no other metric of its name was measured."""

    name: str
    weight: float
    scale: Literal["linear", "log"]
    unit: str
    words: str = ""  # its figure in a sentence; the axis' name where there are none
    stands_in: bool = False
    order: float = LAST


@dataclass(frozen=True)
class MetricSpec:
    """One metric. A ratio names what it is the ratio of (`of`), and how (`against`): speedups above 1 are better."""

    name: str
    title: str
    group: Group
    better: Better
    form: Form = "plain"
    unit: str = ""
    source: Source = "derived"  # where its value comes from
    counted: str = ""  # what its sample counts: rows, predictions, choices, answers
    interval: Interval = "none"
    of: str = ""
    against: Against = ""
    bound_by: Literal["bandwidth", "arithmetic", ""] = ""  # what of a machine limits a phase
    absent: str = ""  # why an optional one may have no value
    gate: Gate | None = None
    column: Column | None = None
    card: CardLine | None = None
    axis: Axis | None = None
    headline: Place | None = None  # the figures that sum a variant up; phases among them are what tuning is about
    step: Place | None = None  # step by step, from the reference to the winner
    watch: Place | None = None  # watched after deployment
    plane: Place | None = None  # an axis of the plots; the one of quality is the upright one
    slower: Place | None = None  # the phase in words, where a variant is slower in it
    claim: str = ""  # the winner's case: "writes {}"
    versus: str = ""  # the same against the fair rival: "decode {}"
    beside: str = ""  # said beside the headline's figure of quality
    tip: bool = False  # said of a mark in the plots

    @property
    def short(self) -> str:
        """The name in a word."""
        return self.gate.short if self.gate is not None else self.name

    @property
    def gate_name(self) -> str:
        """The gate as records and suites name it: by its bound and its metric."""
        return f"{'min' if self.better == 'higher' else 'max'}_{self.name}"


def speedup(name: str, of: str, title: str, gate: Gate, **appearances: Any) -> MetricSpec:
    """A row that says how many times as fast as the reference a phase is, from blocks timed in turns with it."""
    return MetricSpec(
        name=name,
        title=title,
        group="speed",
        better="higher",
        form="times",
        interval="blocks",
        of=of,
        against="speedup",
        gate=gate,
        **appearances,
    )


class Catalogue:
    """The metrics of one kind of model by name, in the order of gates."""

    def __init__(self, kind: str, *groups: tuple[MetricSpec, ...]) -> None:
        """Join rows; raises ValueError when a name stands twice or a ratio is of nothing."""
        self.kind = kind
        rows = [row for group in groups for row in group]
        self._rows: Mapping[str, MetricSpec] = {row.name: row for row in rows}
        if len(self._rows) < len(rows):
            raise ValueError(f"{kind}: a metric stands twice in the catalogue")
        lost = [row.name for row in rows if row.of and row.of not in self._rows]
        if lost:
            raise ValueError(f"{kind}: {', '.join(lost)}: ratios of metrics that are not in the catalogue")

    def __iter__(self) -> Iterator[MetricSpec]:
        """All rows."""
        return iter(self._rows.values())

    def __contains__(self, name: object) -> bool:
        """Whether there is a metric of that name."""
        return name in self._rows

    def __getitem__(self, name: str) -> MetricSpec:
        """The row of a metric, also of its comparison with the fair rival; raises DataError on an unknown name."""
        row = self._rows.get(name) or self._rows.get(name.removesuffix(VS_RIVAL))
        if row is None:
            raise DataError(f"no metric {name!r} is known of {self.kind}; run `dvc repro` to make its records anew")
        return row

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return tuple(self._rows)

    @cached_property
    def by_gate(self) -> Mapping[str, MetricSpec]:
        """Rows by the name of the gate on them."""
        return {row.gate_name: row for row in self}

    def having(self, appearance: str) -> tuple[MetricSpec, ...]:
        """Rows that appear somewhere (`column`, `card`, `headline`, ...), in the order of that place."""
        found = [row for row in self if getattr(row, appearance) is not None]
        return tuple(sorted(found, key=lambda row: getattr(row, appearance).order))

    def of_source(self, *sources: Source) -> tuple[MetricSpec, ...]:
        """Rows whose values come from there."""
        return tuple(row for row in self if row.source in sources)

    def ratios(self, against: Against) -> tuple[MetricSpec, ...]:
        """Rows that compare with another variant in this way."""
        return tuple(row for row in self if against and row.against == against)

    def ratio_of(self, name: str) -> MetricSpec | None:
        """The row that compares a metric with the reference's value of it."""
        return next((row for row in self if row.of == name), None)

    @cached_property
    def phases(self) -> Mapping[str, bool]:
        """Phases that are timed in turns with the reference, and whether more of each is better."""
        timed = (row for row in self if row.source in ("phase", "optional", "unscored"))
        return {row.name: row.better == "higher" for row in timed}

    @cached_property
    def deciding(self) -> tuple[str, ...]:
        """The phases in which speed is summed up: what tuning improves and timing must know precisely."""
        return tuple(row.name for row in self.having("headline") if row.name in self.phases)


VS_RIVAL = "_vs_bf16"  # ending of a ratio against PyTorch bf16
